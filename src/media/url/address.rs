//! Which addresses are somebody's on the internet, after the registries of special-purpose addresses that IANA keeps
//! (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Not reachable over the internet, or not one host's: first address and length of the prefix.
const SPECIAL_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network, unspecified
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // shared by a carrier's customers
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, where clouds answer for their machines' keys
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // relays of 6to4
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// The same within 2000::/3, outside of which nothing is anybody's on the internet: first 32 bits, length of the prefix.
const SPECIAL_V6: &[(u32, u32)] = &[
    (0x2001_0000, 23), // protocol assignments, with Teredo, benchmarks and ORCHID
    (0x2001_0db8, 32), // documentation
    (0x2002_0000, 16), // 6to4, which embeds an address of version 4
    (0x3fff_0000, 20), // documentation
];

/// Whether this is the address of one host on the internet. Addresses of version 6 that embed one of version 4 are not,
/// except those by which a network without version 4 reaches hosts that have nothing else (NAT64).
pub(super) fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => public_v4(address),
        IpAddr::V6(address) => public_v6(address),
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    let special = |(prefix, length): &([u8; 4], u32)| {
        (address.to_bits() ^ u32::from_be_bytes(*prefix)) >> (32 - length) == 0
    };
    !SPECIAL_V4.iter().any(special)
}

fn public_v6(address: Ipv6Addr) -> bool {
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        return public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    let first = (address.to_bits() >> 96) as u32;
    let special = |(prefix, length): &(u32, u32)| (first ^ prefix) >> (32 - length) == 0;
    first >> 29 == 0b001 && !SPECIAL_V6.iter().any(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_on_the_internet_are_public() {
        for text in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2a00:1450:4001::1",
            "64:ff9b::808:808",
        ] {
            assert!(public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:5ef5:79fd:0:0:0:1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!public(text.parse().unwrap()), "{text}");
        }
    }
}
