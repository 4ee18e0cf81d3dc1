use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::page::{STYLE, STYLE_HASH};

#[test]
fn the_style_sheet_is_the_one_that_browsers_may_apply() {
    assert_eq!(STYLE_HASH, BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes())), "write this into page.rs");
}

#[test]
fn the_page_has_nothing_that_loads_or_runs() {
    for word in ["url(h", "url(/", "@import", "expression(", "</style"] {
        assert!(!STYLE.contains(word), "{word}");
    }
}
