//! oslo's `[DEFAULT] transport_url`: `rabbit://user:password@host:port[,user:password@host:port…]/virtual_host`.

use crate::Error;

/// One broker of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) virtual_host: String,
}

/// Without the password, for logs.
impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

const PORT: u16 = 5672;

pub(crate) fn parse(url: &str) -> Result<Vec<Broker>, Error> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme; expected rabbit://…"))?;
    if !matches!(scheme, "rabbit" | "amqp" | "kombu") {
        return Err(wrong(format!("the scheme '{scheme}' is not served, only 'rabbit'")));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.split('&').any(|option| matches!(option, "ssl=1" | "ssl=true" | "ssl=True")) {
        return Err(wrong("TLS to RabbitMQ (ssl) is not built in"));
    }
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    // Upstream: no virtual host means the default one, «/», which is also written as a second slash.
    let virtual_host = if path.is_empty() { "/".to_string() } else { decoded(path)? };
    hosts.split(',').map(|host| broker(host, &virtual_host)).collect()
}

fn broker(text: &str, virtual_host: &str) -> Result<Broker, Error> {
    let (credentials, address) = text.rsplit_once('@').unwrap_or(("", text));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|port| !port.is_empty()).map_or(Ok(PORT), str::parse);
    let port = port.map_err(|_| wrong(format!("the port of '{address}' is not a number")))?;
    if host.is_empty() {
        return Err(wrong("it names no host"));
    }
    // Upstream: RabbitMQ's guest is used when nobody is named.
    let or_guest = |text: &str| if text.is_empty() { Ok("guest".to_string()) } else { decoded(text) };
    Ok(Broker {
        user: or_guest(user)?,
        password: or_guest(password)?,
        host: host.to_string(),
        port,
        virtual_host: virtual_host.to_string(),
    })
}

fn decoded(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("a part of it is not UTF-8"))
}

fn wrong(why: impl Into<String>) -> Error {
    Error::Address { why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Vec<String> {
        let one = |b: Broker| format!("{}|{}|{}|{}|{}", b.user, b.password, b.host, b.port, b.virtual_host);
        parse(url).unwrap().into_iter().map(one).collect()
    }

    #[test]
    fn upstreams_addresses_are_read() {
        assert_eq!(shown("rabbit://openstack:s%40cret@c1:5673//"), ["openstack|s@cret|c1|5673|/"]);
        assert_eq!(shown("rabbit://a:b@c1,a:b@[::1]:99/nova"), ["a|b|c1|5672|nova", "a|b|::1|99|nova"]);
        assert_eq!(shown("rabbit://localhost"), ["guest|guest|localhost|5672|/"]);
    }

    #[test]
    fn an_address_that_we_cannot_use_says_why() {
        let why = |url: &str| parse(url).unwrap_err().to_string();
        assert!(why("localhost").ends_with("it has no scheme; expected rabbit://…"));
        assert!(why("kafka://localhost").ends_with("the scheme 'kafka' is not served, only 'rabbit'"));
        assert!(why("rabbit://h:port/").ends_with("the port of 'h:port' is not a number"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let brokers = parse("rabbit://u:hidden@h/").unwrap();
        assert_eq!(format!("{brokers:?}"), "[h:5672]");
    }
}
