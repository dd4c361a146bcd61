//! The spellings of the command line, and what it refuses.

use super::*;

fn parsed(line: &[&str]) -> Result<Command, clap::Error> {
    parse(
        std::iter::once("channel-whatsapp")
            .chain(line.iter().copied())
            .map(OsString::from),
    )
}

fn link(line: &[&str]) -> LinkArgs {
    match parsed(line) {
        Ok(Command::Link(args)) => args,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Line::command().debug_assert();
}

#[test]
fn both_spellings_of_link() {
    assert_eq!(parsed(&[]).unwrap(), Command::Serve);
    let plain = LinkArgs {
        device_name: "Dispatch".into(),
        account: "default".into(),
        sqlite_store_path: None,
        pair_code: None,
        custom_pair_code: None,
        qr_png: None,
        replace: false,
        json: false,
        timeout: 300,
    };
    for line in [&["--link"][..], &["link"], &["link", "--link"]] {
        assert_eq!(link(line), plain);
    }
    let all = [
        "-n",
        "Front desk",
        "--account",
        "work",
        "--sqlite-store-path",
        "/srv/x.db",
        "--pair-code",
        "+1 (555) 123-4567",
        "--custom-pair-code",
        "abcd-1234",
        "--qr-png",
        "qr.png",
        "--json",
        "--timeout",
        "60",
    ];
    let expected = LinkArgs {
        device_name: "Front desk".into(),
        account: "work".into(),
        sqlite_store_path: Some("/srv/x.db".into()),
        pair_code: Some("+15551234567".parse().unwrap()),
        custom_pair_code: Some("ABCD1234".into()),
        qr_png: Some("qr.png".into()),
        replace: false,
        json: true,
        timeout: 60,
    };
    assert_eq!(link(&[&["link"], &all[..]].concat()), expected);
    assert_eq!(link(&[&["--link"], &all[..]].concat()), expected);
    assert_eq!(link(&[&all[..], &["--link"]].concat()), expected);
}

#[test]
fn usage_errors_end_with_two() {
    for line in [
        &["--nonsense"][..],
        &["serve"],
        &["--account", "work"],
        &["link", "--account", "../x"],
        &["link", "--device-name", ""],
        &["link", "--sqlite-store-path", "x.db"],
        &["link", "--pair-code", "0171 1234567"],
        &["link", "--custom-pair-code", "ABCD1234"],
        &[
            "link",
            "--pair-code",
            "+15551234567",
            "--custom-pair-code",
            "ABCD0000",
        ],
        &["link", "--timeout", "0"],
    ] {
        let error = parsed(line).expect_err(&format!("{line:?}"));
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

#[test]
fn help_and_version() {
    for line in [&["--help"][..], &["--link", "--help"], &["link", "--help"]] {
        let help = parsed(line).unwrap_err();
        assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
        assert!(
            help.to_string()
                .contains("Examples:\n  channel-whatsapp --link\n"),
            "{help}"
        );
    }
    let version = parsed(&["--version"]).unwrap_err();
    assert_eq!(
        (version.kind(), version.exit_code()),
        (ErrorKind::DisplayVersion, 0)
    );
    let version = version.to_string();
    let (first, rest) = version.split_once('\n').unwrap();
    assert_eq!(first, format!("channel-whatsapp {}", crate::VERSION));
    assert_eq!(
        rest.starts_with("loopback build: "),
        cfg!(feature = "loopback"),
        "{version}"
    );
}
