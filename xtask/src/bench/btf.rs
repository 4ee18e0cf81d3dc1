//! Finds a type in the kernel's BTF (its documentation: `Documentation/bpf/btf.rst`).

/// Kinds whose entries are followed by more, and by how much.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// The ID of the typedef called `name`; `None` where there is none, or the bytes are no BTF.
pub(super) fn id_of_typedef(bytes: &[u8], name: &str) -> Option<u32> {
    let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..2)? != 0xeb9f_u16.to_ne_bytes() {
        return None;
    }
    let header = number(4)? as usize;
    let place = |offset: usize| header.checked_add(number(offset)? as usize);
    let (types, end, strings) = (place(8)?, place(8)?.checked_add(number(12)? as usize)?, place(16)?);
    let wanted = [name.as_bytes(), &[0]].concat();
    let (mut at, mut id) = (types, 1);
    while at < end {
        let (name_at, info) = (strings.checked_add(number(at)? as usize)?, number(at + 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == TYPEDEF && bytes.get(name_at..)?.starts_with(&wanted) {
            return Some(id);
        }
        at += 12
            + match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                ENUM | FUNC_PROTO => 8 * count,
                _ => 0,
            };
        id += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types with names, kinds, counts of members, and bytes behind them.
    fn btf(types: &[(&str, u32, u32, usize)]) -> Vec<u8> {
        let (mut entries, mut strings) = (Vec::new(), vec![0]);
        for &(name, kind, count, behind) in types {
            for word in [strings.len() as u32, kind << 24 | count, 0] {
                entries.extend(word.to_ne_bytes());
            }
            entries.extend(vec![0xff; behind]);
            strings.extend(name.bytes().chain([0]));
        }
        let (types, strings_length) = (entries.len() as u32, strings.len() as u32);
        let mut bytes = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
        for word in [24, 0, types, types, strings_length] {
            bytes.extend(word.to_ne_bytes());
        }
        [bytes, entries, strings].concat()
    }

    #[test]
    fn a_typedef_is_found_behind_entries_of_all_lengths() {
        let bytes = btf(&[
            ("int", INT, 0, 4),
            ("", ARRAY, 0, 12),
            ("here", STRUCT, 3, 36),
            ("colour", ENUM, 2, 16),
            ("", FUNC_PROTO, 2, 16),
            ("wide", ENUM64, 1, 12),
            ("here_not", TYPEDEF, 0, 0),
            ("here", TYPEDEF, 0, 0),
        ]);
        assert_eq!(id_of_typedef(&bytes, "here"), Some(8));
        assert_eq!(id_of_typedef(&bytes, "there"), None);
        assert_eq!(id_of_typedef(&bytes, "int"), None);
    }

    #[test]
    fn bytes_that_are_cut_short_have_none() {
        let bytes = btf(&[("int", INT, 0, 4), ("here", TYPEDEF, 0, 0)]);
        for length in 0..bytes.len() {
            assert_eq!(id_of_typedef(&bytes[..length], "here"), None);
        }
        assert_eq!(id_of_typedef(&[0; 64], "here"), None);
    }
}
