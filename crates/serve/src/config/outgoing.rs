//! [`Outgoing`]: what the server may connect to for its clients, [`Webhook`], and the addresses of both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fault::echo;

/// The longest address, in bytes.
const LONGEST: usize = 2048;

/// What the server may connect to on behalf of its clients. Public addresses may be reached, others may not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outgoing {
    /// Whether pictures are fetched from addresses that clients give.
    pub fetch_pictures: bool,
    /// Networks that may be reached besides public addresses, such as `127.0.0.1` or `10.0.0.0/8`.
    pub allowed_networks: Vec<Network>,
}

/// A receiver that is told of clips that were made or have failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its address.
    pub url: String,
    /// Only the clips of this owner; those of all without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Addresses with the same first bits, written as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn contains(self, other: IpAddr) -> bool {
        let number = |address| match address {
            IpAddr::V4(address) => (u128::from(Ipv4Addr::to_bits(address)) << 96, 32),
            IpAddr::V6(address) => (Ipv6Addr::to_bits(address), 128),
        };
        let ((own, size), (other, other_size)) = (number(self.address), number(other));
        let differ = (own ^ other).checked_shr(128 - u32::from(self.bits)).unwrap_or(0);
        size == other_size && differ == 0
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let read = || {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            (bits <= most).then_some(Self { address, bits })
        };
        let problem = || format!("has `{text}`, which is neither an address nor a network such as `10.0.0.0/8`");
        read().ok_or_else(|| Error::Invalid { what: "`outgoing.allowed_networks`".into(), problem: problem() })
    }
}

impl TryFrom<String> for Network {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl Outgoing {
    /// Whether the server may connect to that address.
    pub fn permits(&self, address: IpAddr) -> bool {
        // An IPv4 address in the clothes of IPv6 is what it is.
        let address = address.to_canonical();
        is_public(address) || self.allowed_networks.iter().any(|network| network.contains(address))
    }

    /// Checks that the server could connect to `url`, as far as that is to be seen without asking for the name's address.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, url: &str) -> std::result::Result<(), String> {
        if url.len() > LONGEST {
            return Err(format!("an address has at most {LONGEST} bytes"));
        }
        let wrong = |what: &str| Err(format!("`{}` {what}", echo(url)));
        let Ok(uri) = url.parse::<axum::http::Uri>() else { return wrong("is no address") };
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return wrong("is no address that begins with https:// or http://");
        };
        if authority.as_str().contains('@') {
            return wrong("has a name or password in it");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let own = host.eq_ignore_ascii_case("localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        match own.or_else(|| host.parse().ok()).filter(|address| !self.permits(*address)) {
            Some(address) => Err(refusal(address)),
            None if host.is_empty() => wrong("has no host"),
            None => Ok(()),
        }
    }
}

/// The scheme and the host of an address, without what may be secret in the rest; other text as it is.
pub fn host_of(url: &str) -> String {
    let uri = url.parse::<axum::http::Uri>().ok();
    let parts = uri.as_ref().and_then(|uri| uri.scheme_str().zip(uri.host()));
    parts.map_or_else(|| url.to_string(), |(scheme, host)| format!("{scheme}://{host}"))
}

/// Why the server does not connect to an address.
pub fn refusal(address: IpAddr) -> String {
    format!("{address} is not a public address: the operator can add its network to `outgoing.allowed_networks`")
}

/// Whether an address is of the public internet, as far as the registries of special addresses tell: not this machine's, its
/// network's or its cloud's. A neighbour with a public address of its own is not known as one.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let octets = address.octets();
            let is_special = matches!(
                octets,
                [0 | 10 | 127 | 224.., ..]
                    | [100, 64..=127, ..]
                    | [168, 63, 129, 16] // the wire server of Azure's machines
                    | [169, 254, ..]
                    | [172, 16..=31, ..]
                    | [192, 168, ..]
                    | [192, 0, 0 | 2, _]
                    | [192, 88, 99, _]
                    | [198, 18 | 19, ..]
                    | [198, 51, 100, _]
                    | [203, 0, 113, _]
            );
            !is_special
        }
        IpAddr::V6(address) => {
            let parts = address.segments();
            // Of what is global unicast, not what carries IPv4 addresses (Teredo, 6to4) or is for documents.
            (0x2000..0x4000).contains(&parts[0])
                && !(parts[0] == 0x2001 && (parts[1] < 0x200 || parts[1] == 0xdb8))
                && parts[0] != 0x2002
                && !(parts[0] == 0x3fff && parts[1] < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in [
            "1.1.1.1",
            "168.63.129.17",
            "172.15.0.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "2a00::1",
        ] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for own in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fec0::1",
            "100::1",
        ] {
            assert!(!Outgoing::default().permits(own.parse().expect("an address")), "{own}");
        }
        assert!(Outgoing::default().permits("::ffff:1.1.1.1".parse().expect("an address")));
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_not_logged() {
        assert_eq!(host_of("https://hooks.example.org:8443/a/secret?token=b"), "https://hooks.example.org");
        assert_eq!(host_of("anna"), "anna");
    }

    #[test]
    fn the_operator_can_allow_networks() {
        let networks = ["127.0.0.1", "10.0.0.0/8", "fd00::/8", "::1/128"];
        let allowed_networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
        let outgoing = Outgoing { allowed_networks, ..Outgoing::default() };
        for (address, is) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.255.0.1", true),
            ("11.0.0.1", true),
            ("192.168.0.1", false),
            ("::ffff:10.0.0.1", true),
            ("fd99::1", true),
            ("fc00::1", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(outgoing.permits(address.parse().expect("an address")), is, "{address}");
        }
        let all = Outgoing { allowed_networks: vec!["0.0.0.0/0".parse().expect("a network")], ..Outgoing::default() };
        assert!(all.permits(Ipv4Addr::LOCALHOST.into()) && !all.permits(Ipv6Addr::LOCALHOST.into()));
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/-1", "a/8", "::/129", "10.0.0.0/8/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_that_can_be_seen_to_be_wrong_are_refused() {
        let outgoing = Outgoing::default();
        for good in ["https://hooks.example.org/a?b=c", "http://1.1.1.1:8080", "https://[2606:4700::1]/"] {
            assert_eq!(outgoing.check(good), Ok(()), "{good}");
        }
        for wrong in [
            "",
            "hooks",
            "/hooks",
            "ftp://a.org",
            "file:///etc/passwd",
            "http://",
            "http://user:word@a.org",
            "http://a b",
            "http://127.0.0.1/",
            "http://[::1]:80/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://10.0.0.1",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest",
        ] {
            assert!(outgoing.check(wrong).is_err(), "{wrong}");
        }
        assert!(outgoing.check(&format!("https://a.org/{}", "x".repeat(LONGEST))).is_err());
    }
}
