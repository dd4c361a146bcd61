//! File names that come from others: they are shown and sent on, and never used as a path.

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
