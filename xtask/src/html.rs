//! The `data-trunk` links of a page, found and replaced without a full HTML parser.

use crate::shell::Result;
use std::ops::Range;

/// One `<link data-trunk …>` of the page.
#[derive(Debug, PartialEq)]
pub struct Link {
    /// Where the tag stands in the source.
    pub place: Range<usize>,
    /// Name and value of each attribute, in order; a bare attribute has an empty value.
    pub attributes: Vec<(String, String)>,
}

impl Link {
    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The value of an attribute that the link cannot do without.
    pub fn need(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| format!("{} needs `{name}`", self.describe()).into())
    }

    /// Fails on attributes beyond `known`: what this bundler ignores, Trunk might not.
    pub fn allow(&self, known: &[&str]) -> Result {
        let always = ["data-trunk", "rel", "href"];
        match self.attributes.iter().find(|(name, _)| !always.contains(&name.as_str()) && !known.contains(&&**name)) {
            Some((name, _)) => Err(format!("{}: xtask does not know `{name}` (see xtask/src)", self.describe()).into()),
            None => Ok(()),
        }
    }

    /// The link in words, for messages.
    pub fn describe(&self) -> String {
        let part = |name| self.get(name).unwrap_or("");
        format!("<link data-trunk rel=\"{}\" href=\"{}\">", part("rel"), part("href"))
    }
}

/// The `data-trunk` links outside of comments. Other elements with `data-trunk` are an error.
pub fn links(page: &str) -> Result<Vec<Link>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = page[at..].find('<') {
        let start = at + offset;
        if page[start..].starts_with("<!--") {
            at = page[start..].find("-->").map_or(page.len(), |length| start + length + 3);
            continue;
        }
        let (attributes, end) = attributes(page, start);
        let trunk = attributes.iter().any(|(name, _)| name.starts_with("data-trunk"));
        if trunk && !page[start..].starts_with("<link") {
            let tag = &page[start..end];
            return Err(format!("{tag}: of Trunk's elements xtask knows `<link data-trunk>` alone").into());
        }
        if trunk {
            found.push(Link { place: start..end, attributes });
        }
        at = end;
    }
    Ok(found)
}

/// The attributes of the tag that opens at `start`, and where the tag ends.
fn attributes(page: &str, start: usize) -> (Vec<(String, String)>, usize) {
    let mut found = Vec::new();
    let bytes = page.as_bytes();
    let mut at = start + 1;
    let skip = |at: &mut usize, test: &dyn Fn(u8) -> bool| {
        let from = *at;
        while *at < bytes.len() && test(bytes[*at]) {
            *at += 1;
        }
        page[from..*at].to_owned()
    };
    let in_name = |byte: u8| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'>' | b'/' | b'<');
    skip(&mut at, &in_name);
    while at < bytes.len() && bytes[at] != b'>' {
        let name = skip(&mut at, &in_name);
        if name.is_empty() {
            at += 1;
            continue;
        }
        skip(&mut at, &|byte| byte.is_ascii_whitespace());
        let mut value = String::new();
        if bytes.get(at) == Some(&b'=') {
            at += 1;
            skip(&mut at, &|byte| byte.is_ascii_whitespace());
            match bytes.get(at) {
                Some(&quote @ (b'"' | b'\'')) => {
                    at += 1;
                    value = skip(&mut at, &|byte| byte != quote);
                    at += 1;
                }
                _ => value = skip(&mut at, &|byte| !byte.is_ascii_whitespace() && byte != b'>'),
            }
        }
        found.push((name, value));
    }
    (found, page.len().min(at + 1))
}

/// Puts `texts` where the links stood, and `head` before `</head>`.
pub fn replace(page: &str, links: &[Link], texts: &[String], head: &str) -> Result<String> {
    let mut out = String::with_capacity(page.len() + 1024);
    let mut at = 0;
    for (link, text) in links.iter().zip(texts) {
        out.push_str(&page[at..link.place.start]);
        out.push_str(text);
        at = link.place.end;
    }
    out.push_str(&page[at..]);
    let place = out.find("</head>").ok_or("the page has no </head>")?;
    out.insert_str(place, head);
    Ok(out)
}

/// A page without what may differ between two bundlers: white space between tags and words, quotes around plain
/// values, the hash in a file name.
pub fn normal(page: &str) -> String {
    let mut out = String::new();
    let words = page.replace('>', "> ").replace('<', " <").replace("/>", ">").replace('"', "");
    for word in words.split_whitespace() {
        out.push_str(&unhash(word));
        out.push(if word.ends_with('>') { '\n' } else { ' ' });
    }
    out
}

/// Replaces each `-<hexadecimal hash>` by `-#`.
pub fn unhash(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('-').enumerate() {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let hashed = index > 0 && (12..=16).contains(&digits);
        out.push_str(if index > 0 { "-" } else { "" });
        out.push_str(if hashed { "#" } else { "" });
        out.push_str(if hashed { &part[digits..] } else { part });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<html><head><!-- <link data-trunk rel="css"> -->
<link rel="icon" href="x">
<link data-trunk rel="rust" href = 'Cargo.toml' data-wasm-opt=0 data-loader-shim/><link href="a>b.css"
 data-trunk rel=css /></head><body></body></html>"#;

    #[test]
    fn finds_links() {
        let links = links(PAGE).unwrap();
        assert_eq!(links.len(), 2);
        assert_eq!(links[0].get("href"), Some("Cargo.toml"));
        assert_eq!(links[0].get("data-wasm-opt"), Some("0"));
        assert_eq!(links[0].get("data-loader-shim"), Some(""));
        assert_eq!(links[1].get("href"), Some("a>b.css"));
        assert!(PAGE[links[1].place.clone()].ends_with("/>"));
        assert!(links[0].allow(&["data-loader-shim"]).is_err());
    }

    #[test]
    fn replaces_links() {
        let links = links(PAGE).unwrap();
        let page = replace(PAGE, &links, &["ONE".into(), "TWO".into()], "HEAD").unwrap();
        assert!(page.contains("\nONETWOHEAD</head><body>"), "{page}");
    }

    #[test]
    fn refuses_other_elements() {
        assert!(links("<script data-trunk src='a.js'></script>").is_err());
        assert!(links("<base data-trunk-public-url>").is_err());
        assert!(links("a < b").unwrap().is_empty());
    }

    #[test]
    fn hashes_are_hidden() {
        assert_eq!(unhash("./parl-app-0123456789abcdef_bg.wasm"), "./parl-app-#_bg.wasm");
        assert_eq!(unhash("wide-abc.css"), "wide-abc.css");
        assert_eq!(normal("<a href=\"b\"/>\n x  y"), normal("<a href=b>x y"));
    }
}
