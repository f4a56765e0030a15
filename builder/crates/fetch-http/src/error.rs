//! Why a request failed, told apart as far as it helps the one who has to mend it.

use std::error::Error as StdError;
use std::io;

use fetch::{ConnectionFailure, TlsFailure};
use reqwest::Url;

use crate::tls::{TrustError, tls_failure};

/// A request that brought nothing usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}")]
pub struct HttpError {
    /// What was asked for, without credentials and query.
    pub url: String,
    /// Why it failed.
    #[source]
    pub what: HttpFailure,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpFailure {
    /// Not an `http` or `https` URL with a host.
    #[error("no http or https URL")]
    Url,
    /// The proxy's URL is not one.
    #[error("proxy is no http URL")]
    ProxyUrl,
    /// The trust settings are unusable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No connection, or a lost one.
    #[error(transparent)]
    Connection(#[from] ConnectionFailure),
    /// A status that is no success.
    #[error("HTTP status {0}")]
    Status(u16),
    /// A server that cannot be asked for parts of a file.
    #[error("the server does not answer requests for parts of a file (Range)")]
    NoRanges,
    /// Encoded, though that was not asked for.
    #[error("body is encoded")]
    Encoded,
    /// Longer than allowed.
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// What was to be sent cannot be written as JSON; a bug.
    #[error("body does not become JSON: {cause}")]
    Body {
        /// What the encoder says.
        cause: String,
    },
    /// A token with characters that no header may have.
    #[error("token is not printable ASCII")]
    Token,
}

impl HttpFailure {
    /// Whether the server was not reached, as opposed to reached and unhelpful.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connection(_))
    }
}

/// A URL fit to be shown: without user, password, query and fragment.
pub fn public_url(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => shown(&url),
        // Whatever it is, it may hold a password.
        Err(_) => "(not a URL)".to_owned(),
    }
}

pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail where there is nothing to remove.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// An `http` or `https` URL.
pub(crate) fn parse_url(url: &str) -> Result<Url, HttpError> {
    let bad = || HttpError {
        url: public_url(url),
        what: HttpFailure::Url,
    };
    let parsed = Url::parse(url).map_err(|_| bad())?;
    if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() {
        Ok(parsed)
    } else {
        Err(bad())
    }
}

/// What reqwest's error means. It hides its causes behind `source`, so the chain is searched for known types.
pub(crate) fn connection_failure(error: &reqwest::Error) -> ConnectionFailure {
    if error.is_redirect() {
        return ConnectionFailure::Redirect;
    }
    if error.is_dns() {
        return ConnectionFailure::Dns;
    }
    let mut found = if error.is_timeout() {
        ConnectionFailure::TimedOut
    } else {
        ConnectionFailure::Other
    };
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(failure) = specific(error) {
            // The innermost cause knows best.
            found = failure;
        }
        cause = error.source();
    }
    found
}

fn specific(error: &(dyn StdError + 'static)) -> Option<ConnectionFailure> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // tokio-rustls and hyper-rustls wrap errors in I/O errors, which do not show them as their source.
        let inner = error.get_ref().and_then(|inner| specific(inner));
        return inner.or_else(|| io_failure(error));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            Some(ConnectionFailure::Lost)
        } else if error.is_parse() {
            Some(ConnectionFailure::NotHttp)
        } else if error.is_timeout() {
            Some(ConnectionFailure::TimedOut)
        } else {
            None
        };
    }
    // hyper-util keeps these two types private; the words are what its Display says.
    let text = error.to_string();
    if text.starts_with("tunnel error") {
        return Some(ConnectionFailure::Proxy);
    }
    text.starts_with("dns error")
        .then_some(ConnectionFailure::Dns)
}

fn tls(error: &rustls::Error) -> ConnectionFailure {
    ConnectionFailure::Tls(tls_failure(error))
}

fn io_failure(error: &io::Error) -> Option<ConnectionFailure> {
    use io::ErrorKind as Kind;
    Some(match error.kind() {
        Kind::ConnectionRefused => ConnectionFailure::Refused,
        Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable => ConnectionFailure::Unreachable,
        Kind::TimedOut => ConnectionFailure::TimedOut,
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::UnexpectedEof
        | Kind::NotConnected => ConnectionFailure::Lost,
        _ => return None,
    })
}

/// The failure of an HTTPS request that nobody could be trusted to answer.
pub(crate) const NO_TRUST: HttpFailure =
    HttpFailure::Connection(ConnectionFailure::Tls(TlsFailure::NoTrust));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_secret() {
        assert_eq!(
            public_url("https://user:secret@host:8443/store/x?token=secret#secret"),
            "https://host:8443/store/x"
        );
        assert_eq!(public_url("secret"), "(not a URL)");
        assert!(
            !format!("{:?}", parse_url("ftp://user:secret@host/").unwrap_err()).contains("secret")
        );
    }

    #[test]
    fn only_http_and_https_are_urls() {
        for url in [
            "",
            "host",
            "file:///etc/passwd",
            "ftp://host/",
            "http:",
            "//host/x",
            "data:,x",
        ] {
            assert_eq!(
                parse_url(url).map_err(|error| error.what),
                Err(HttpFailure::Url),
                "{url}"
            );
        }
        assert!(parse_url("http://[fe80::1]:80/x").is_ok());
    }
}
