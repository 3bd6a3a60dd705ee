use proptest::prelude::*;

use super::*;

fn root(document: &str) -> Element {
    read(document.as_bytes()).unwrap()
}

fn refusal(document: &str) -> String {
    read(document.as_bytes()).unwrap_err().to_string()
}

#[test]
fn elements_attributes_text_and_comments_are_read_with_their_lines() {
    let element = root(
        "<?xml version='1.0' encoding='UTF-8'?>\n<!-- before -->\n<a x='1' y=\"'2'\">\n  \
         <b>text &amp; more</b>\n  <!-- in -->\n  <p:c/>\n</a>\n<!-- after -->\n",
    );
    assert_eq!((element.name.as_str(), element.line.0), ("a", 3));
    assert_eq!(element.attribute("y"), Some("'2'"));
    assert_eq!(element.children.len(), 3, "white space is left out");
    assert_eq!(element.child("b").unwrap().text(), "text & more");
    assert_eq!(element.children[1], Node::Comment(" in ".to_owned()));
    assert_eq!((element.child("p:c").unwrap().line.0, element.child("b").unwrap().line.0), (6, 4));
}

#[test]
fn references_cdata_and_line_breaks_become_text() {
    let element = root("<a x='&lt;&#10;\t&#x9;&quot;'>&#65;<![CDATA[<&]]>\r\n&gt;\r</a>");
    assert_eq!(element.attribute("x"), Some("<\n \t\""));
    assert_eq!(element.children, [Node::Text("A<&\n>\n".to_owned())]);
}

#[test]
fn white_space_stays_where_it_may_mean_something() {
    assert_eq!(root("<a>  </a>").text(), "  ");
    assert_eq!(root("<a> x <b/> </a>").children.len(), 3);
    assert_eq!(root("<a> <b/> </a>").children.len(), 1);
    // XML knows fewer blanks than Unicode.
    assert_eq!(root("<a>\u{a0}<b/></a>").children.len(), 2);
}

#[test]
fn a_byte_order_mark_and_other_scripts_are_read() {
    assert_eq!(root("\u{feff}<größe>ü</größe>").name, "größe");
}

#[test]
fn what_is_not_well_formed_is_refused_with_its_place() {
    for (document, place, problem) in [
        ("", "1, column 1", "holds no element"),
        ("<a>\n  <b>\n</a>", "3, column 1", "</a> stands where </b> should"),
        ("<a>\n<b>", "2, column 4", "<b> of line 2 never ends"),
        ("<a/></a>", "1, column 5", "ends what never began"),
        ("<a/>\n<b/>", "2, column 1", "second root"),
        ("<a/>text", "1, column 5", "outside of the root"),
        ("text<a/>", "1, column 1", "outside of the root"),
        ("<a/>&amp;", "1, column 5", "outside of the root"),
        ("<a/><![CDATA[]]>", "1, column 5", "outside of the root"),
        ("<a x='1' x='2'/>", "1, column 1", "'x' stands twice"),
        ("<a x='1'y='2'/>", "1, column 1", "no space before"),
        ("<a x=1/>", "1, column 1", "not in quotes"),
        ("<a x/>", "1, column 1", "has no value"),
        ("<a x='<'/>", "1, column 1", "write &lt;"),
        ("<a 1='x'/>", "1, column 1", "no name of an attribute"),
        ("<1/>", "1, column 1", "no name of an element"),
        ("<a/b>", "1, column 1", "no name of an element"),
        ("< a/>", "1, column 1", "no name of an element"),
        ("<a>\n & b</a>", "2, column 2", "write &amp;"),
        ("<a>&nbsp;</a>", "1, column 4", "'nbsp' is not known"),
        ("<a x='&me;'/>", "1, column 1", "'me' is not known"),
        ("<a>&#0;</a>", "1, column 4", "no character"),
        ("<a>&#xd800;</a>", "1, column 4", "no character"),
        ("<a>&#+65;</a>", "1, column 4", "no character"),
        ("<a>&#99999999999;</a>", "1, column 4", "no character"),
        ("<a>]]></a>", "1, column 4", "]]&gt;"),
        ("<a><!-- a -- b --></a>", "1, column 4", "a comment cannot"),
        ("<a>\u{1}</a>", "1, column 4", "U+0001"),
        ("<a>ü\u{ffff}</a>", "1, column 5", "U+FFFF"),
        ("<a><b", "1, column 4", "never ends"),
        ("<a><!-- ", "1, column 4", "never ends"),
        (" <?xml version='1.0'?><a/>", "1, column 2", "very beginning"),
        ("<?xml version='1.1'?><a/>", "1, column 1", "'1.1' for 'version'"),
        ("<?xml encoding='UTF-8'", "1, column 1", "never ends"),
        ("<?xml?><a/>", "1, column 1", "no version"),
        ("<?XML version='1.0'?><a/>", "1, column 1", "small letters"),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
            "1, column 1",
            "'ISO-8859-1' for 'encoding': only version 1.0 in the encoding UTF-8",
        ),
    ] {
        let error = refusal(document);
        assert!(error.starts_with(&format!("line {place}")), "{document}: {error}");
        assert!(error.contains(problem), "{document}: {error}");
    }
}

#[test]
fn only_utf_8_is_read() {
    let error = read(b"<a>\n\xff</a>").unwrap_err().to_string();
    assert_eq!(error, "line 2, column 1: this is not UTF-8 text");
    let error = read(b"\xff\xfe<\0a\0/\0>\0").unwrap_err().to_string();
    assert!(error.contains("write it in UTF-8"), "{error}");
}

#[test]
fn document_types_are_refused_with_whatever_they_define() {
    let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbbbbbb'><!ENTITY c '&b;&b;&b;&b;'>]><a>&c;</a>";
    let external = "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>";
    let outside = "<!DOCTYPE a PUBLIC '-//x//y' 'http://127.0.0.1/a.dtd'><a/>";
    for document in [bomb, external, outside, "<!doctype a><a/>"] {
        let error = refusal(document);
        assert!(error.contains("document type"), "{document}: {error}");
    }
}

#[test]
fn ten_megabytes_of_nesting_cost_nothing() {
    // It never gets to the parser: the time does not depend on what the document holds.
    let error = read("<a>".repeat(10 << 20).as_bytes()).unwrap_err().to_string();
    assert!(error.contains("31457280 bytes, the limit is 1048576"), "{error}");
}

#[test]
fn what_becomes_too_long_when_it_is_written_is_refused_and_what_was_kept_is_read() {
    let text = ">".repeat(MAX_LEN / 2);
    assert!(refusal(&format!("<a>{text}</a>")).contains("written anew"));
    let kept = Element::new("a").with_text(text);
    assert_eq!(read_kept(write(&kept).as_bytes()).unwrap(), kept);
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert_eq!(root(&nested(MAX_DEPTH)).name, "a");
    assert!(refusal(&nested(MAX_DEPTH + 1)).contains("more than 64 levels"));
    assert!(refusal(&"<a>".repeat(MAX_LEN / 3)).contains("more than 64 levels"));
}

#[test]
fn the_number_of_nodes_and_attributes_is_bounded() {
    let many = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES));
    assert!(refusal(&many).contains("more than 20000"));
    let texts = format!("<a>{}</a>", "&lt;".repeat(MAX_NODES + 1));
    assert!(refusal(&texts).contains("more than 20000"));
    let attributes: String = (0..=MAX_ATTRIBUTES).map(|at| format!(" a{at}=''")).collect();
    assert!(refusal(&format!("<a{attributes}/>")).contains("more than 64 attributes"));
}

#[test]
fn very_long_names_are_cut_in_errors() {
    let name = "n".repeat(500_000);
    for document in [format!("<{name}>"), format!("<a></{name}>"), format!("<a>&{name};</a>")] {
        assert!(refusal(&document).len() < 400);
    }
}

#[test]
fn documents_are_written_as_the_daemon_does() {
    let element = Element::new("volume")
        .with("type", "file")
        .with_child(Element::new("name").with_text("a<b>&'\"c"))
        .with_child(Element::new("target").with_child(Element::new("nocow")))
        .with_child(Element::new("key").with("x", "'\"\t\n<&>"));
    let text = write(&element);
    assert_eq!(
        text,
        "<volume type='file'>\n  <name>a&lt;b&gt;&amp;'\"c</name>\n  <target>\n    <nocow/>\n  \
         </target>\n  <key x='&apos;&quot;&#9;&#10;&lt;&amp;&gt;'/>\n</volume>\n"
    );
    assert_eq!(read(text.as_bytes()), Ok(element));
}

#[test]
fn characters_that_xml_lacks_are_replaced() {
    assert_eq!(write(&Element::new("a").with_text("\u{1}b")), "<a>\u{fffd}b</a>\n");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(element in elements()) {
        let text = write(&element);
        prop_assert_eq!(read(text.as_bytes()), Ok(element), "{}", text);
    }

    #[test]
    fn nothing_makes_the_reader_panic(text in "[<>/!?&;#x'\"=a \n\\[\\]DOCTYPECA-]{0,60}") {
        if let Ok(element) = read(text.as_bytes()) {
            let written = write(&element);
            prop_assert_eq!(read(written.as_bytes()), Ok(element), "{}", written);
        }
    }
}

fn name() -> BoxedStrategy<String> {
    "[a-zäß_][a-z0-9.:-]{0,6}".boxed()
}

/// Texts that XML can hold.
fn text() -> BoxedStrategy<String> {
    "[ -~\t\n\rä€\u{10ffff}]{1,12}".boxed()
}

/// Elements as the reader returns them: no text beside text, none that is blank beside other nodes.
fn elements() -> impl Strategy<Value = Element> {
    let attributes = proptest::collection::btree_map(name(), text(), 0..4).boxed();
    let leaf = (name(), attributes.clone(), proptest::option::of(text())).prop_map(
        |(name, attributes, text)| Element {
            attributes: attributes.into_iter().collect(),
            ..Element::new(&name).with_text(text.unwrap_or_default())
        },
    );
    leaf.prop_recursive(4, 32, 5, move |below| {
        let node = prop_oneof![
            3 => below.prop_map(Node::Element),
            1 => "[a-z <&]{0,8}".prop_map(Node::Comment),
            1 => text().prop_map(Node::Text),
        ];
        (name(), attributes.clone(), proptest::collection::vec(node, 0..5)).prop_map(
            |(name, attributes, mut children)| {
                children.dedup_by(|right, left| {
                    matches!((right, left), (Node::Text(_), Node::Text(_)))
                });
                let says = |node: &Node| matches!(node, Node::Text(text) if !is_blank(text));
                if !children.iter().any(says) && children.len() > 1 {
                    children.retain(|node| !matches!(node, Node::Text(_)));
                }
                Element {
                    attributes: attributes.into_iter().collect(),
                    children,
                    ..Element::new(&name)
                }
            },
        )
    })
}
