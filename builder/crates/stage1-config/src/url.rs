//! Which texts pass as base URLs. The HTTP client parses them for real; this keeps out what it could misread.

/// What is wrong with a base URL, if anything: `http://` or `https://`, a host, no user, query or fragment, printable ASCII.
pub(crate) fn problem(url: &str) -> Option<&'static str> {
    if url.len() > MAX_LEN {
        return Some("is longer than 1,024 bytes");
    }
    let Some(rest) = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
    else {
        return Some("does not start with http:// or https://");
    };
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("has spaces or other than printable ASCII");
    }
    if rest.contains(['?', '#', '\\', '"', '\'', '<', '>', '`', '{', '}', '|', '^']) {
        return Some("has a query, a fragment or characters that need escaping");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Some("has a user name; secrets do not belong into URLs");
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Some("has no host");
    }
    None
}

const MAX_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_base_urls() {
        for url in [
            "http://10.0.2.2:8080",
            "https://boot.example/store/",
            "http://[fd00::1]:80/a",
            "http://h",
        ] {
            assert_eq!(problem(url), None, "{url}");
        }
    }

    #[test]
    fn refuses_what_a_client_could_misread() {
        let long = format!("http://{}", "a".repeat(1024));
        for url in [
            "",
            "ftp://h",
            "HTTP://h",
            "http://",
            "http:///path",
            "http://:80",
            "http://user@h",
            "http://u:p@h/x",
            "http://h/?q",
            "http://h/#f",
            "http://h\\@evil",
            "http://h/a b",
            "http://h/\n",
            "http://hé",
            &long,
        ] {
            assert!(problem(url).is_some(), "{url:?}");
        }
    }
}
