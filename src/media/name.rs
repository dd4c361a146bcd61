//! File names that come from others: they are shown and sent on, and never used as a path.

use percent_encoding::percent_decode_str;

/// Longest name in bytes, as common file systems have it.
const LONGEST: usize = 255;

/// What is left of a file name that somebody else chose: its last part, without control characters and marks that turn
/// the direction of writing (`gpj.exe` would read `exe.jpg`), at most 255 bytes with its extension kept. `None` when
/// nothing is left.
pub fn sanitised(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last
        .chars()
        .filter(|c| !c.is_control() && !turns(*c))
        .collect();
    let name = shown.trim().trim_end_matches('.');
    if name.trim_matches('.').is_empty() {
        return None;
    }
    if name.len() <= LONGEST {
        return Some(name.to_owned());
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if extension.len() < 16 => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let end = stem.floor_char_boundary(LONGEST - extension.len());
    Some(format!("{}{extension}", &stem[..end]))
}

/// Bidirectional controls, and what has no width at all.
fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The name in a `Content-Disposition` header (RFC 6266), made safe.
pub fn of_disposition(header: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    let mut rest = header.split_once(';')?.1;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, rest) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), rest)
            }
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value),
            "filename*" => extended = Some(value),
            _ => {}
        }
    }
    let extended = extended.and_then(|value| {
        let encoded = value.splitn(3, '\'').nth(2)?.to_owned();
        value
            .to_ascii_lowercase()
            .starts_with("utf-8")
            .then(|| unescaped(&encoded))?
    });
    sanitised(&extended.or(plain)?)
}

/// The last part of a URL's path, made safe.
pub fn of_url_path(path: &str) -> Option<String> {
    sanitised(&unescaped(path.rsplit('/').next()?)?)
}

/// A quoted string up to its end, and what follows the next semicolon.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => value.extend(characters.next()),
            c => value.push(c),
        }
    }
    let rest = characters.as_str();
    (value, rest.split_once(';').map_or("", |(_, rest)| rest))
}

fn unescaped(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// The extension in lower case, without its dot; empty if there is none.
pub fn extension(name: &str) -> String {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    extension.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for (given, expected) in [
            ("report.pdf", Some("report.pdf")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\temp\\a.txt", Some("a.txt")),
            ("..", None),
            ("a/..", None),
            ("", None),
            (" . ", None),
            ("\u{202e}gpj.exe", Some("gpj.exe")),
            ("a\0b\n.txt", Some("ab.txt")),
            (".hidden", Some(".hidden")),
            ("übung ☎.txt", Some("übung ☎.txt")),
        ] {
            assert_eq!(sanitised(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn names_from_servers() {
        for (header, expected) in [
            ("attachment; filename=a.pdf", Some("a.pdf")),
            (
                r#"attachment; filename="a \"b\"; c.pdf"; x=1"#,
                Some(r#"a "b"; c.pdf"#),
            ),
            (
                "inline; filename=\"x.txt\"; filename*=UTF-8''%e2%82%ac%20rates.txt",
                Some("€ rates.txt"),
            ),
            (
                r#"attachment; FileName = "../../etc/passwd""#,
                Some("passwd"),
            ),
            ("attachment; filename*=utf-8''..%2F..%2Fx", Some("x")),
            ("attachment; filename*=utf-8''%ff; filename=y", Some("y")),
            ("attachment", None),
            ("attachment; filename", None),
            ("attachment; filename=\"open", Some("open")),
        ] {
            assert_eq!(of_disposition(header).as_deref(), expected, "{header}");
        }
        assert_eq!(of_url_path("/a/b%20c.png").as_deref(), Some("b c.png"));
        assert_eq!(of_url_path("/a/..%2f..%5cx"), Some("x".to_owned()));
        assert_eq!(of_url_path("/"), None);
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let long = format!("{}.jpeg", "ü".repeat(300));
        let name = sanitised(&long).unwrap();
        assert!(name.len() <= LONGEST && name.ends_with("ü.jpeg"), "{name}");
        let all = "ü".repeat(300);
        assert_eq!(sanitised(&all).unwrap().len(), LONGEST - 1);
        assert_eq!(extension("A.Tar.GZ"), "gz");
        assert_eq!(extension("none"), "");
    }
}
