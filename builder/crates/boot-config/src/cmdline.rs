//! How is a Linux command line cut into words?
//!
//! The rules are the kernel's (`next_arg` in lib/cmdline.c): blanks separate words, a double
//! quote starts or ends a part in which blanks do not, there is no escape character. The initramfs
//! scripts are less exact (most split on every blank), which is their matter: words are passed on
//! as they were found.

/// The words of a command line, quotes kept.
pub(crate) fn words(cmdline: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quoted = false;
    for (at, character) in cmdline.char_indices() {
        if character.is_ascii_whitespace() && !quoted {
            if let Some(start) = start.take() {
                words.extend(cmdline.get(start..at));
            }
            continue;
        }
        start = start.or(Some(at));
        if character == '"' {
            quoted = !quoted;
        }
    }
    words.extend(start.and_then(|start| cmdline.get(start..)));
    words
}

/// The name of a parameter: what stands before `=`, without the quote that may enclose the whole.
pub(crate) fn name(word: &str) -> &str {
    let word = word.strip_prefix('"').unwrap_or(word);
    word.split_once('=').map_or(word, |(name, _)| name)
}

/// The value of the first parameter called `wanted`, quotes removed; an empty string for a bare
/// flag.
pub(crate) fn value<'a>(cmdline: &'a str, wanted: &str) -> Option<&'a str> {
    words(cmdline)
        .into_iter()
        .find(|word| name(word) == wanted)
        .map(|word| {
            word.trim_matches('"')
                .split_once('=')
                .map_or("", |(_, value)| value)
                .trim_matches('"')
        })
}

/// Whether a parameter called `wanted` stands on the command line, with or without a value.
pub(crate) fn has(cmdline: &str, wanted: &str) -> bool {
    words(cmdline).into_iter().any(|word| name(word) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_inside_double_quotes_do_not_separate_words() {
        assert_eq!(
            words("quiet  root=live:\"CD LABEL\"\t\"dyndbg=file a +p\" ro"),
            [
                "quiet",
                "root=live:\"CD LABEL\"",
                "\"dyndbg=file a +p\"",
                "ro"
            ]
        );
    }

    #[test]
    fn an_unclosed_quote_reaches_to_the_end() {
        assert_eq!(words("a \"b c"), ["a", "\"b c"]);
        assert_eq!(words("\""), ["\""]);
        assert!(words(" \t ").is_empty());
    }

    #[test]
    fn names_and_values_lose_their_quotes() {
        assert_eq!(name("\"dyndbg=file a +p\""), "dyndbg");
        assert_eq!(value("x a=\"b c\" y", "a"), Some("b c"));
        assert_eq!(value("quiet toram", "toram"), Some(""));
        assert_eq!(value("quiet", "toram"), None);
    }
}
