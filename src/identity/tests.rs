use proptest::prelude::*;

use super::*;

#[test]
fn phones_as_people_write_them() {
    for text in [
        "+15551230000",
        "15551230000",
        "0015551230000",
        "+1 555 123 0000",
        "+1 (555) 123-0000",
        "(+1) 555.123.0000",
        "1-555-123-0000",
        " +1\u{a0}555\u{2011}123\u{2011}0000 ",
        "\u{202a}+1 555 123 0000\u{202c}",
        "+1 (0)555 123 0000",
    ] {
        assert_eq!(
            text.parse::<Phone>().map(|p| p.to_string()),
            Ok("+15551230000".to_owned()),
            "{text:?}"
        );
    }
}

#[test]
fn what_is_no_phone() {
    for (text, error) in [
        ("", PhoneError::Length),
        ("+", PhoneError::Length),
        ("123456", PhoneError::Length),
        ("1234567890123456", PhoneError::Length),
        ("0171 1234567", PhoneError::NoCountryCode),
        ("+0015551230000", PhoneError::NoCountryCode),
        ("++15551230000", PhoneError::NotDigits),
        ("1555123000x", PhoneError::NotDigits),
        ("١٥٥٥١٢٣٠٠٠٠", PhoneError::NotDigits),
    ] {
        assert_eq!(text.parse::<Phone>(), Err(error), "{text:?}");
    }
}

#[test]
fn jids_lose_device_agent_and_legacy_names() {
    for (text, bare, kind) in [
        (
            "15551230000@s.whatsapp.net",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            "15551230000:12@s.whatsapp.net",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            "15551230000_1:2@s.whatsapp.net",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            "15551230000.0:2@s.whatsapp.net",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            "15551230000:99@hosted",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            "15551230000@c.us",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            " 15551230000@S.WhatsApp.Net ",
            "15551230000@s.whatsapp.net",
            ChatKind::Private,
        ),
        (
            "123456789012345:7@lid",
            "123456789012345@lid",
            ChatKind::Private,
        ),
        (
            "123456789012345:99@hosted.lid",
            "123456789012345@lid",
            ChatKind::Private,
        ),
        ("0@c.us", "0@s.whatsapp.net", ChatKind::Private),
        ("13135550002@bot", "13135550002@bot", ChatKind::Private),
        (
            "15551230000-1400000000@g.us",
            "15551230000-1400000000@g.us",
            ChatKind::Group,
        ),
        (
            "120363000000000000@newsletter",
            "120363000000000000@newsletter",
            ChatKind::Newsletter,
        ),
        ("status@broadcast", "status@broadcast", ChatKind::Broadcast),
        (
            "1400000000@broadcast",
            "1400000000@broadcast",
            ChatKind::Broadcast,
        ),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), bare, "{text}");
        assert_eq!(address.kind(), kind, "{text}");
    }
}

#[test]
fn what_is_no_jid() {
    for text in [
        "",
        "@",
        "a@s.whatsapp.net",
        "@lid",
        ":1@lid",
        "x@lid",
        ":1@g.us",
        "1@g.us@g.us",
        "home:1@g.us",
        "home:1@newsletter",
        "1 2@g.us",
        "1@g us",
        "a:group:1@g.us",
        "1:2:3@lid",
        "1551@é",
        "15551230000",
    ] {
        assert_eq!(text.parse::<Address>(), Err(AddressError), "{text:?}");
    }
    assert!(
        format!("{}@g.us", "1".repeat(300))
            .parse::<Address>()
            .is_err()
    );
}

#[test]
fn json_is_the_jid() {
    let address: Address = serde_json::from_str("\"15551230000:3@s.whatsapp.net\"").unwrap();
    assert_eq!(
        serde_json::to_string(&address).unwrap(),
        "\"15551230000@s.whatsapp.net\""
    );
    assert!(serde_json::from_str::<Address>("\"nobody\"").is_err());
}

pub(super) fn any_address() -> impl Strategy<Value = Address> {
    prop_oneof![
        "[1-9][0-9]{6,14}".prop_map(|digits| Address::Phone(Phone::from_digits(&digits).unwrap())),
        "[0-9]{1,20}".prop_map(Address::Lid),
        "[0-9]{5,18}(-[0-9]{10})?".prop_map(Address::Group),
        "[0-9]{5,18}".prop_map(Address::Newsletter),
        "[0-9]{5,18}".prop_map(Address::Broadcast),
        Just(Address::Status),
        "[0-9]{5,18}@bot".prop_map(Address::Other),
    ]
}

#[test]
fn logs_get_two_digits() {
    for (jid, log) in [
        ("15551230042@s.whatsapp.net", "…42@s.whatsapp.net"),
        ("120363000000000017@g.us", "…17@g.us"),
        ("status@broadcast", "…us@broadcast"),
        ("7@newsletter", "…7@newsletter"),
    ] {
        assert_eq!(jid.parse::<Address>().unwrap().redacted(), log);
    }
}

proptest! {
    #[test]
    fn every_address_is_what_it_writes(address in any_address(), device in 0u16..100) {
        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address.clone()));
        let json = serde_json::to_string(&address).unwrap();
        prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address.clone());
        if address.is_user() || matches!(address, Address::Other(_)) {
            let (user, server) = (address.user(), address.server());
            let with_device = format!("{user}:{device}@{server}");
            prop_assert_eq!(with_device.parse::<Address>(), Ok(address));
        }
    }

    #[test]
    fn a_number_is_the_same_however_it_is_set(
        digits in "[1-9][0-9]{6,14}",
        marks in prop::collection::vec("[ ()./-]{0,2}", 15),
        plus in prop::sample::select(vec!["", "+", "00", " +"]),
    ) {
        let set: String = digits.chars().zip(&marks).flat_map(|(digit, mark)| [digit.to_string(), mark.clone()]).collect();
        // An isolated zero in brackets is the trunk prefix, which nobody dials from abroad.
        prop_assume!(!set.contains("(0)"));
        let phone: Phone = format!("{plus}{set}").parse().unwrap();
        prop_assert_eq!(phone.digits(), digits);
        prop_assert_eq!(phone.to_string().parse::<Phone>(), Ok(phone));
    }

    #[test]
    fn parsers_never_panic_and_what_they_take_round_trips(text in "\\PC{0,40}|[0-9+@:._a-z-]{0,40}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address.clone()));
            let _ = address.redacted();
        }
        if let Ok(phone) = text.parse::<Phone>() {
            prop_assert_eq!(phone.to_string().parse::<Phone>(), Ok(phone));
        }
    }
}
