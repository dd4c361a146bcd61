use proptest::prelude::*;

use super::super::verbatim;
use super::{pass, render};

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (markdown, expected) in cases {
        let rendered = render(markdown);
        assert_eq!(rendered, *expected, "{markdown:?}");
        assert_eq!(render(&rendered), *expected, "a second time: {markdown:?}");
    }
}

#[test]
fn emphasis() {
    check(&[
        ("**bold** and __bold__", "*bold* and *bold*"),
        ("_italic_ ~~gone~~", "_italic_ ~gone~"),
        ("***both*** ___both___", "_*both*_ _*both*_"),
        ("**bold *italic* ~~gone~~**", "*bold _italic_ ~gone~*"),
        ("*italic **bold** italic*", "_italic *bold* italic_"),
        ("****twice****", "*twice*"),
        ("2**10 + 3**10 **or** 5**s", "2**10 + 3**10 *or* 5**s"),
        ("**a\nb**", "*a*\n*b*"),
        ("> **a *b\n> c* d**", "> *a _b_*\n> *_c_ d*"),
        ("重点**在这里**。", "重点*在这里*。"),
        ("** no ** 2 ** 3 ~~ 4 __init", "** no ** 2 ** 3 ~~ 4 __init"),
    ]);
}

#[test]
fn whatsapp_markup_stays() {
    for text in [
        "*bold* _italic_ ~gone~ `code` ```code```",
        "*_~all~_* and *bold with spaces*\nsnake_case_name 2*3*4",
        "- one\n- two\n  - nested\n* three\n1. first\n2. second",
        "> quoted\nnot quoted",
        "```first line\nsecond line```",
        "  spaces  and\ttabs, \"quotes\" & <angles>\n\n\n…",
        "one  \u{a0} two\r\nthree\r\n",
        "@+15551230001 #hash 100% $5 a/b [x] (y) {z} ^ = |",
    ] {
        check(&[(text, text)]);
    }
}

#[test]
fn headings() {
    check(&[
        ("# One\n## Two ##\ntext", "*One*\n*Two*\ntext"),
        (
            "# A **strong** and *soft* `word`",
            "*A strong and _soft_ `word`*",
        ),
        ("Title\n=====\ntext", "*Title*\ntext"),
        ("Long\ntitle\n---\n", "*Long*\n*title*\n"),
        ("> # Quoted\n- ## Listed", "> *Quoted*\n- *Listed*"),
        (
            "# [Docs](https://example.org/a)",
            "*Docs (https://example.org/a)*",
        ),
        ("# \\* star", "*\\* star*"),
        ("#\n# <b></b>\n#hashtag", "#\n\n#hashtag"),
        ("a\n\n---\n\n***\nb", "a\n\n———\n\n———\nb"),
    ]);
}

#[test]
fn lists() {
    check(&[
        ("+ a\n+ b\n    + c", "- a\n- b\n    - c"),
        ("1) a\n2) b", "1. a\n2. b"),
        ("1. a\n1. b\n   - **c**\n1. d", "1. a\n2. b\n   - *c*\n3. d"),
        ("7. a\n9. b", "7. a\n9. b"),
        ("- [ ] open\n- [x] done", "- ☐ open\n- ☑ done"),
        ("- a\n\n  b\n\n- c", "- a\n\n  b\n\n- c"),
    ]);
}

#[test]
fn links() {
    check(&[
        (
            "[Docs](https://example.org/a_b_c)",
            "Docs (https://example.org/a_b_c)",
        ),
        (
            "[https://example.org](https://example.org/)",
            "https://example.org/",
        ),
        (
            "[example.org](https://example.org \"title\")",
            "https://example.org",
        ),
        (
            "[**Docs**](https://a.example), **[x](https://b.example)**",
            "*Docs* (https://a.example), *x (https://b.example)*",
        ),
        (
            "<https://example.org/_x_> <me@example.org>",
            "https://example.org/_x_ me@example.org",
        ),
        (
            "[mail](mailto:me@example.org) [me@example.org](mailto:me@example.org)",
            "mail (me@example.org) me@example.org",
        ),
        (
            "[above](#part) [](https://c.example) [none]()",
            "above https://c.example none",
        ),
        (
            "![A cat](https://d.example/cat.png) ![](https://e.example)",
            "A cat (https://d.example/cat.png) https://e.example",
        ),
        (
            "[![badge](https://f.example/b.svg)](https://f.example/ci)",
            "badge (https://f.example/ci)",
        ),
        (
            "[two\nlines](https://g.example)",
            "two lines (https://g.example)",
        ),
        (
            "See [docs][1] or [Here].\n\n[1]: https://h.example/1\n[here]: <https://h.example/2> 'x'\n\nEnd [2].",
            "See docs (https://h.example/1) or Here (https://h.example/2).\n\nEnd [2].",
        ),
        ("[a]\n\n[a]: https://i.example\n", "a (https://i.example)"),
        ("[b]: https://j.example", "[b]: https://j.example"),
        (
            "Fact[^1].\n\n[^1]: Source **A**",
            "Fact[1].\n\n[1] Source *A*",
        ),
    ]);
}

#[test]
fn code() {
    check(&[
        (
            "`**a** _b_ [c](d) <br> \\* &amp;`",
            "`**a** _b_ [c](d) <br> \\* &amp;`",
        ),
        ("``a b`` ``a`b``", "`a b` ``a`b``"),
        (
            "```rust\nlet a = \"**b**\";\n```",
            "```\nlet a = \"**b**\";\n```",
        ),
        ("~~~\n# a\n~~~\nb", "```\n# a\n```\nb"),
        ("```sh\nrm -r **", "```\nrm -r **\n```"),
        ("> ```\n> a\n\nb", "> ```\n> a\n> ```\n\nb"),
        (
            "- a\n  ```py\n  b\n\n  c\n  ```",
            "- a\n  ```\n  b\n\n  c\n  ```",
        ),
        (
            "````md\n```\n**a**\n```\n````",
            "````md\n```\n**a**\n```\n````",
        ),
        (
            "text\n\n    indented **code**",
            "text\n\n    indented **code**",
        ),
        ("```\n```", "```\n```"),
        ("```\r\na\r\n```\r\n", "```\r\na\r\n```\r\n"),
    ]);
}

#[test]
fn urls_stay() {
    for url in [
        "https://github.com/a/__init__.py",
        "https://example.org/~~x~~/**y**/_z_?a=*b*&amp;c=1#__d__",
        "www.example.org/__a__b",
        "ftp://example.org/(**a**)",
    ] {
        check(&[
            (url, url),
            (
                &format!("**bold** {url}, _x_"),
                &format!("*bold* {url}, _x_"),
            ),
            (&format!("**{url}**"), &format!("*{url}*")),
        ]);
    }
}

#[test]
fn tables() {
    let table = "| Name | Price |\n|:--|--:|\n| **Tea** | 3 € |\n| [Kaffee](https://a.example) | `a\\|b` |\n";
    let fence = "```\nName                       | Price\n---------------------------|------\nTea                        |   3 €\nKaffee (https://a.example) |   a|b\n```\n";
    check(&[
        (table, fence),
        (
            "a | b\n:-:|-\n名前 | 2\n\nc",
            "```\n a   | b\n-----|--\n名前 | 2\n```\n\nc",
        ),
        (
            "> |a|b|\n> |-|-|\n> |1<br>2|\n\nc",
            "> ```\n> a   | b\n> ----|--\n> 1 2 |\n> ```\n\nc",
        ),
        ("- |a|\n  |-|\n  |b|", "- ```\n  a\n  -\n  b\n  ```"),
    ]);
}

#[test]
fn html() {
    check(&[
        ("a<br>b<br/>\nc <b>d</b> <!-- e -->f", "a\nb\nc d f"),
        ("> **a<br>b**", "> *a*\n> *b*"),
        ("<div align=\"center\">\n\n**a**\n\n</div>\nb", "\n*a*\n\nb"),
        (
            "<details><summary>More</summary>\n\n- a\n</details>",
            "More\n\n- a\n",
        ),
        ("<ul><li>a</li><li>**b**</li></ul>", "- a\n- *b*"),
        ("<p>one</p><p title='>'>two</p>", "one\ntwo"),
        (
            "Vec<String> cp <source> <target> a<b",
            "Vec<String> cp <source> <target> a<b",
        ),
    ]);
}

#[test]
fn escapes_and_entities() {
    check(&[
        (
            "snake\\_case, 5 \\* 3, a \\- b, 1\\. x\\.",
            "snake_case, 5 * 3, a - b, 1. x.",
        ),
        ("\\*not bold\\* \\# \\`", "\\*not bold\\* # \\`"),
        ("- 2\\. \\(x^2\\) 1\\.", "- 2\\. (x^2) 1."),
        ("C:\\\\Users \\\\*", "C:\\Users \\\\*"),
        ("https://example.org/a\\_b\\_", "https://example.org/a_b\\_"),
        (
            "a &amp; b &lt; c &quot;d&quot; &mdash;&nbsp;e",
            "a & b < c \"d\" —\u{a0}e",
        ),
        (
            "&lt;div&gt; &amp;amp; &#42;a&#42; &bogus;",
            "&lt;div> &amp;amp; &#42;a&#42; &bogus;",
        ),
        ("a\\\nb  \nc", "a\nb\nc"),
    ]);
}

/// Texts whose parts are as many as they are long, or as long as they are many: none costs more than its length.
#[test]
fn what_is_long_takes_no_longer_than_that() {
    let long = 64 << 10;
    let spaces = " ".repeat(long);
    let many = |unit: &str| unit.repeat(long / unit.len());
    let texts = [
        many("*["),
        many("[a](b) "),
        many("> "),
        many("- "),
        many("*a **b "),
        many("a<br>"),
        many("\\*"),
        many("<a href=\""),
        many("`a``b"),
        many("```\n"),
        many("|a|b|\n"),
        many("ab\n"),
        format!("|a|b|\n|-|-|\n{}", many("|a|`b`|\n")),
        format!("{}{}", many("> "), many("a<br>")),
        format!("<div>{spaces}x"),
        format!("<div>a{spaces}</div>{spaces}x"),
        format!("```\n{spaces}x{spaces}y\n```"),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        let rendered = render(&text);
        for limit in [100, 65_536] {
            let parts = super::super::split::split(&rendered, limit);
            assert!(parts.iter().all(|part| part.chars().count() <= limit));
        }
        let (took, shown) = (start.elapsed(), &text[..20]);
        // A second or so on a busy machine; what grows by the square takes minutes.
        assert!(took.as_secs() < 15, "{shown:?} took {took:?}");
        assert!(rendered.len() < 100 * text.len(), "{shown:?}");
    }
}

#[test]
fn what_nests_as_nobody_writes_stays() {
    for mark in [">", "> ", "- ", "1. "] {
        let nested = |depth: usize| format!("{}**a**", mark.repeat(depth));
        assert_eq!(render(&nested(300)), nested(300));
        assert!(render(&nested(10)).ends_with("*a*"), "{mark}");
        assert!(!render(&nested(10)).contains("**"), "{mark}");
    }
    let rule = format!("{} **a**", ">".repeat(99));
    assert!(render(&rule).ends_with(" *a*"));
}

#[test]
fn a_long_answer() {
    insta::assert_snapshot!(render(include_str!("answer.md")));
}

/// Pieces of which Markdown is made, in any order.
fn markdownish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "*",
        "**",
        "***",
        "_",
        "__",
        "~",
        "~~",
        "`",
        "``",
        "```",
        "~~~",
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "  ",
        "    ",
        "\t",
        "# ",
        "## ",
        "===",
        "---",
        "***\n",
        "> ",
        "- ",
        "+ ",
        "* ",
        "1. ",
        "1) ",
        "[",
        "]",
        "(",
        ")",
        "![",
        "](",
        "](https://a.example/_b_)",
        "[r]",
        "\n[r]: https://r.example\n",
        "[^n]",
        "\n[^n]: note\n",
        "<",
        ">",
        "<br>",
        "<b>",
        "</b>",
        "<div>",
        "</div>",
        "<li>",
        "<!--",
        "-->",
        "<T>",
        "<https://u.example>",
        "\\",
        "&amp;",
        "&lt;",
        "&#42;",
        "&nbsp;",
        "| a | b |",
        "\n|---|:-:|\n",
        "|",
        "- [ ] ",
        "- [x] ",
        "https://x.example/__y__",
        "www.",
        "a",
        "word",
        "é",
        "名",
        "👨‍👩‍👧",
        "\u{301}",
        "\u{a0}",
        "\u{200b}",
        "!",
        ".",
        ":",
        "1",
        "@+15551230001",
        "x=1&y=2",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rendering_twice_is_rendering_once(text in prop_oneof![markdownish(), "\\PC*", any::<String>()]) {
        let once = render(&text);
        prop_assert_eq!(render(&once), once);
    }

    #[test]
    fn code_and_urls_are_not_touched(
        before in "[a-z*_~>#\\\\.&;! \n-]{0,30}",
        code in "[a-z*_~\\\\<>&;\\[\\]()#|-]{1,20}",
        url in "https?://[a-z]{1,9}\\.example/[a-z0-9_*~%&=+,:@!$'-]{0,20}[a-z0-9]",
        after in "[a-z*_~>#.&;! \n-]{0,30}",
    ) {
        let text = format!("{before}\n\n`{code}` {url}\n\n{after}\n\n```\n{code}\n```\n\n{after}");
        let rendered = render(&text);
        prop_assert!(rendered.contains(&format!("`{code}`")), "{rendered:?}");
        prop_assert!(rendered.contains(&format!("```\n{code}\n```")), "{rendered:?}");
        prop_assert!(rendered.contains(&format!("{url}\n")), "{rendered:?}");
        let linked = render(&format!("{after} [label]({url}) **{url}**"));
        prop_assert!(linked.contains(&format!("({url})")), "{linked:?}");
        prop_assert_eq!(linked.matches(&url).count(), 2, "{}", linked);
    }

    #[test]
    fn words_stay_in_order(words in prop::collection::vec("[a-zé名]{1,6}", 1..20), marks in prop::collection::vec("~{1,2}|[*_#>. \n-]{1,4}", 20)) {
        let text: String = words.iter().zip(&marks).map(|(word, mark)| format!("{word}{mark}")).collect();
        let bare = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        prop_assert_eq!(bare(&render(&text)), bare(&text));
    }

    #[test]
    fn almost_every_text_comes_to_rest(text in markdownish()) {
        let mut text = text;
        for _ in 0..super::MOST_PASSES {
            text = pass::render(&text);
        }
        prop_assert_eq!(pass::render(&text), text);
    }

    #[test]
    fn what_is_not_markup_is_found_in_order(text in prop_oneof![markdownish(), any::<String>()]) {
        for ranges in [verbatim::urls(&text), verbatim::code(&text)] {
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            prop_assert!(ranges.iter().all(|range| text.get(range.clone()).is_some_and(|found| !found.is_empty())));
        }
    }
}
