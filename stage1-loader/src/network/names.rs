//! /etc/resolv.conf and /etc/hosts, which the C library's resolver reads. Pure.

use std::net::IpAddr;

/// The resolver looks at no more than three servers (resolv.conf(5)).
const MAX_SERVERS: usize = 3;

/// Text of /etc/resolv.conf. `domain` has been checked by the DHCP client to be nothing but a
/// domain name.
pub fn resolv_conf(servers: &[IpAddr], domain: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(domain) = domain {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in servers.iter().take(MAX_SERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    // Five seconds and two tries are the defaults; a dead first server should not cost ten.
    text.push_str("options timeout:2 attempts:3\n");
    text
}

/// Text of /etc/hosts.
pub const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The host in `http://host:port/...`, without brackets; none when there is none.
pub fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_gets_three_servers_and_the_search_domain() {
        let servers: Vec<IpAddr> = ["10.0.2.3", "2001:db8::53", "10.0.2.4", "10.0.2.5"]
            .map(|server| server.parse().unwrap())
            .to_vec();
        assert_eq!(
            resolv_conf(&servers, Some("example.org")),
            "search example.org\nnameserver 10.0.2.3\nnameserver 2001:db8::53\n\
             nameserver 10.0.2.4\noptions timeout:2 attempts:3\n"
        );
    }

    #[test]
    fn the_host_of_an_url_has_no_brackets_and_no_port() {
        let cases = [
            ("http://server:8080", Some("server")),
            ("https://[2001:db8::1]:443/store", Some("2001:db8::1")),
            ("http://user:word@192.0.2.1/x", Some("192.0.2.1")),
            ("server", None),
            ("http://:80", None),
        ];
        for (url, host) in cases {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
