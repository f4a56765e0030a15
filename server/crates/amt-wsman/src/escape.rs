//! Text that may stand inside an XML element or attribute (XML 1.0, 2.2 and 2.4).

/// Appends `text` so that a reader of the XML gets it back unchanged.
///
/// What XML 1.0 cannot carry at all, such as U+0000, becomes U+FFFD.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // Readers turn these into spaces or line feeds where they stand bare (2.11, 3.3.3).
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        push_escaped(&mut out, text);
        out
    }

    #[test]
    fn markup_in_a_value_stays_text() {
        assert_eq!(
            escaped("<a b='c'>&\"\r\n\t\0"),
            "&lt;a b=&apos;c&apos;&gt;&amp;&quot;&#13;&#10;&#9;\u{fffd}"
        );
        assert_eq!(
            escaped("Intel(r) AMT: Force CD/DVD Boot"),
            "Intel(r) AMT: Force CD/DVD Boot"
        );
    }

    proptest! {
        #[test]
        fn a_reader_gets_the_text_back(text in any::<String>()) {
            let carried: String = text
                .chars()
                .map(|c| match c {
                    '\t' | '\n' | '\r' => c,
                    '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
                    _ => c,
                })
                .collect();
            let value = escaped(&text);
            let document = format!("<a b=\"{value}\">{value}</a>");
            let read = roxmltree::Document::parse(&document).unwrap();
            let root = read.root_element();
            prop_assert_eq!(root.attribute("b").unwrap(), carried.as_str());
            prop_assert_eq!(root.text().unwrap_or_default(), carried.as_str());
        }
    }
}
