//! Reads from the running kernel's BTF what tcptrace needs: offsets of struct members, numbers of arguments of
//! functions and tracepoints, and enum values.
//!
//! For the format see the kernel's `Documentation/bpf/btf.rst`. The bytes are untrusted: each read is checked.

use thiserror::Error;
use zerocopy::IntoBytes as _;

/// File in which the kernel exposes its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// Length of `struct btf_type` in bytes.
const TYPE_LEN: usize = 12;
/// Average length in bytes of a type with the data that follows it, rounded down.
const MEAN_LEN: usize = 24;
/// Maximum nesting depth of anonymous structs; guards against cycles in broken data.
const MAX_DEPTH: usize = 16;
/// Maximum number of members that one search visits, members of anonymous structs included: in broken data, structs may
/// contain each other many times. The largest kernel struct has a few hundred.
const MAX_MEMBERS: usize = 1 << 16;
/// Maximum length of a name in bytes (`include/linux/kallsyms.h`, `KSYM_NAME_LEN`; `kernel/bpf/btf.c`,
/// `__btf_name_valid`).
const MAX_NAME: usize = 512;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why BTF could not be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the kernel's BTF is broken at byte {0}")]
    Broken(usize),
    #[error("the kernel's BTF has no `{0}`")]
    NoType(String),
    #[error("the kernel's `struct {0}` has no `{1}`")]
    NoMember(String, String),
}

/// The first four bytes of a name as a number; bytes after its end are 0.
fn beginning(name: &[u8]) -> u32 {
    let word = name.first_chunk::<4>().map_or_else(
        || name.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
        |bytes| u32::from_le_bytes(*bytes),
    );
    // Keep only the bytes before the first zero byte.
    let zeroes = word.wrapping_sub(0x0101_0101) & !word & 0x8080_8080;
    word & (zeroes & zeroes.wrapping_neg()).wrapping_sub(1)
}

/// The kernel's types, indexed by id and by name.
pub struct KernelBtf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset into `types` of each type; id 0 is `void`.
    offsets: Vec<u32>,
    /// By kind: each type's id and the first bytes of its name, which rule out most types without reading the name.
    named: [Vec<(u32, u32)>; 32],
}

/// A `struct btf_type`, and where its trailing data begins.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    vlen: usize,
    bitfields: bool,
    size_or_type: u32,
    body: usize,
}

/// A member: its offset in bits, its width in bits if it is a bit field (else 0), and its type.
struct Member {
    bits: u32,
    width: u32,
    id: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    word.map(|word| u32::from_ne_bytes(*word)).ok_or(Error::Broken(at))
}

impl<'a> KernelBtf<'a> {
    /// Indexes `bytes`, the contents of [`VMLINUX`].
    ///
    /// # Errors
    /// [`Error::Broken`] if the bytes are not BTF in this machine's byte order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let magic = bytes.first_chunk::<2>().map(|magic| u16::from_ne_bytes(*magic));
        if magic != Some(MAGIC) || bytes.len() < HEADER_LEN {
            return Err(Error::Broken(0));
        }
        let header_len = u32_at(bytes, 4)? as usize;
        let section = |at: usize| -> Result<&'a [u8], Error> {
            let start = header_len.checked_add(u32_at(bytes, at)? as usize);
            let len = u32_at(bytes, at + 4)? as usize;
            let range = start.and_then(|start| Some(start..start.checked_add(len)?));
            range.and_then(|range| bytes.get(range)).ok_or(Error::Broken(at))
        };
        let named = [const { Vec::new() }; 32];
        let (types, strings) = (section(8)?, section(16)?);
        let mut offsets = Vec::with_capacity(types.len() / MEAN_LEN);
        offsets.push(0);
        let mut btf = Self { types, strings, offsets, named };
        let mut at = 0;
        while at < btf.types.len() {
            let this = btf.type_at(at)?;
            if matches!(this.kind, kind::STRUCT | kind::ENUM | kind::TYPEDEF | kind::FUNC) {
                let name = btf.strings.get(this.name as usize..).unwrap_or_default();
                btf.named[this.kind as usize].push((beginning(name), btf.offsets.len() as u32));
            }
            btf.offsets.push(at as u32);
            at = btf.after(this)?;
        }
        Ok(btf)
    }

    fn type_at(&self, at: usize) -> Result<Type, Error> {
        let head = self.types.get(at..).and_then(|rest| rest.first_chunk::<TYPE_LEN>()).ok_or(Error::Broken(at))?;
        let [name, info, size_or_type]: [u32; 3] = zerocopy::transmute!(*head);
        Ok(Type {
            name,
            kind: info >> 24 & 0x1f,
            vlen: (info & 0xffff) as usize,
            bitfields: info >> 31 != 0,
            size_or_type,
            body: at + TYPE_LEN,
        })
    }

    /// Where the next type begins.
    fn after(&self, this: Type) -> Result<usize, Error> {
        let body_len = match this.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => this.vlen * 12,
            kind::ENUM | kind::FUNC_PROTO => this.vlen * 8,
            0..=kind::ENUM64 => 0,
            _ => return Err(Error::Broken(this.body)),
        };
        Ok(this.body + body_len)
    }

    fn by_id(&self, id: u32) -> Result<Type, Error> {
        match self.offsets.get(id as usize) {
            Some(&at) if id != 0 => self.type_at(at as usize),
            _ => Err(Error::Broken(id as usize)),
        }
    }

    /// Follows typedefs and qualifiers to the type itself.
    fn resolved(&self, mut id: u32) -> Result<Type, Error> {
        for _ in 0..MAX_DEPTH {
            let this = self.by_id(id)?;
            match this.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = this.size_or_type;
                }
                _ => return Ok(this),
            }
        }
        Err(Error::Broken(id as usize))
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn name(&self, offset: u32) -> &'a str {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(MAX_NAME)];
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }

    fn find(&self, kind: u32, name: &str) -> Option<Type> {
        self.by_id(self.id(kind, name)?).ok()
    }

    fn id(&self, kind: u32, name: &str) -> Option<u32> {
        let wanted = beginning(name.as_bytes());
        let alike = self.named[kind as usize].iter().filter(|(beginning, _)| *beginning == wanted);
        alike.map(|(_, id)| *id).find(|id| self.by_id(*id).is_ok_and(|this| self.is_named(this.name, name)))
    }

    /// Offset in bytes of `path` (member names joined by dots) in `struct name`.
    ///
    /// # Errors
    /// [`Error::NoType`] or [`Error::NoMember`] if the kernel has no such struct or member, or if a member is a bit
    /// field.
    pub fn offset_of(&self, name: &str, path: &str) -> Result<u32, Error> {
        let mut here = self.structure(name)?;
        let mut bytes = 0;
        for member in path.split('.') {
            let found = self.member(here, member)?.filter(|member| member.width == 0 && member.bits % 8 == 0);
            let Member { bits, id, .. } = found.ok_or_else(|| Error::NoMember(name.to_owned(), path.to_owned()))?;
            bytes += bits / 8; // cannot overflow: each is below 2^29, and a path has few members
            here = self.resolved(id)?;
        }
        Ok(bytes)
    }

    /// Offset in bits of the one-bit field `member` in `struct name`.
    ///
    /// # Errors
    /// [`Error::NoType`] or [`Error::NoMember`] if the kernel has no such struct or member, or if it is not a single
    /// bit.
    pub fn bit_of(&self, name: &str, member: &str) -> Result<u32, Error> {
        let found = self.member(self.structure(name)?, member)?.filter(|member| member.width == 1);
        Ok(found.ok_or_else(|| Error::NoMember(name.to_owned(), member.to_owned()))?.bits)
    }

    fn structure(&self, name: &str) -> Result<Type, Error> {
        self.find(kind::STRUCT, name).ok_or_else(|| Error::NoType(name.to_owned()))
    }

    /// Finds a member, also within anonymous structs and unions.
    fn member(&self, of: Type, name: &str) -> Result<Option<Member>, Error> {
        self.member_within(of, name, 0, &mut { MAX_MEMBERS })
    }

    /// [`Self::member`] at nesting level `depth`; `left` is the number of members that may still be visited.
    fn member_within(&self, of: Type, name: &str, depth: usize, left: &mut usize) -> Result<Option<Member>, Error> {
        if !matches!(of.kind, kind::STRUCT | kind::UNION) || depth > MAX_DEPTH {
            return Ok(None);
        }
        for index in 0..of.vlen {
            *left = left.checked_sub(1).ok_or(Error::Broken(of.body))?;
            let at = of.body + index * 12;
            let (member_name, id, raw) =
                (u32_at(self.types, at)?, u32_at(self.types, at + 4)?, u32_at(self.types, at + 8)?);
            let (bits, width) = if of.bitfields { (raw & 0x00ff_ffff, raw >> 24) } else { (raw, 0) };
            if self.is_named(member_name, name) {
                return Ok(Some(Member { bits, width, id }));
            }
            if self.is_named(member_name, "")
                && let Some(inner) = self.member_within(self.resolved(id)?, name, depth + 1, left)?
            {
                return Ok(Some(Member { bits: bits.saturating_add(inner.bits), ..inner }));
            }
        }
        Ok(None)
    }

    /// Number of parameters of a kernel function; `None` if the kernel has no such function.
    #[must_use]
    pub fn function_parameters(&self, name: &str) -> Option<usize> {
        let proto = self.resolved(self.find(kind::FUNC, name)?.size_or_type).ok()?;
        (proto.kind == kind::FUNC_PROTO).then_some(proto.vlen)
    }

    /// Number of arguments of a tracepoint; `None` if the kernel has no such tracepoint.
    #[must_use]
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let pointer = self.resolved(self.find(kind::TYPEDEF, &format!("btf_trace_{name}"))?.size_or_type).ok()?;
        let proto = self.resolved(pointer.size_or_type).ok()?;
        // The first parameter is the data pointer of the probe.
        (pointer.kind == kind::PTR && proto.kind == kind::FUNC_PROTO).then(|| proto.vlen.saturating_sub(1))
    }

    /// Builds a reduced BTF in which the functions and typedefs with these names keep their ids, and all types before
    /// them are nameless. Looking up ids in it takes a few percent of the time and memory.
    #[must_use]
    pub fn ids_of(&self, names: &[impl AsRef<str>]) -> Vec<u8> {
        let mut found = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            found.extend(
                [kind::FUNC, kind::TYPEDEF].iter().filter_map(|kind| Some((self.id(*kind, name)?, *kind, name))),
            );
        }
        let count = found.iter().map(|(id, ..)| *id).max().unwrap_or(0) as usize; // ids begin with 1
        let types_end = HEADER_LEN + TYPE_LEN * count;
        // Twelve zero bytes are a valid type, of kind 0.
        let mut bytes = vec![0; types_end + 1];
        for (id, kind, name) in found {
            let at = HEADER_LEN + TYPE_LEN * (id as usize - 1);
            let words = [(bytes.len() - types_end) as u32, kind << 24, 0];
            bytes[at..at + TYPE_LEN].copy_from_slice(words.as_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
        }
        let types_len = (types_end - HEADER_LEN) as u32;
        let header = [HEADER_LEN as u32, 0, types_len, types_len, (bytes.len() - types_end) as u32];
        bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[2] = 1; // BTF version
        bytes[4..HEADER_LEN].copy_from_slice(header.as_bytes());
        bytes
    }

    /// Names and values of an enum; empty if the kernel has no such enum.
    #[must_use]
    pub fn enum_values(&self, name: &str) -> Vec<(&'a str, u32)> {
        let Some(this) = self.find(kind::ENUM, name) else {
            return Vec::new();
        };
        let value = |index: usize| {
            let at = this.body + index * 8;
            Some((self.name(u32_at(self.types, at).ok()?), u32_at(self.types, at + 4).ok()?))
        };
        (0..this.vlen).filter_map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_what_is_asked() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            eprintln!("no {VMLINUX}: only broken input is tested");
            return;
        };
        let btf = KernelBtf::parse(&bytes).unwrap();
        assert_eq!(btf.offset_of("sock", "__sk_common").unwrap(), 0);
        assert_eq!(btf.offset_of("sock_common", "skc_daddr").unwrap(), 0);
        assert_eq!(btf.offset_of("sock_common", "skc_rcv_saddr").unwrap(), 4);
        assert!(btf.offset_of("sock", "sk_lock.owned").unwrap() > 0);
        assert!(btf.bit_of("sock_common", "skc_reuseport").unwrap() > 0);
        assert!(btf.offset_of("sock_common", "skc_reuseport").is_err(), "a bit field has no byte");
        assert!(btf.bit_of("sock_common", "skc_reuse").is_err(), "four bits wide");
        assert!(matches!(btf.offset_of("sock", "no_such"), Err(Error::NoMember(..))));
        assert!(matches!(btf.offset_of("no_such", "a"), Err(Error::NoType(_))));
        assert_eq!(btf.tracepoint_arguments("inet_sock_set_state"), Some(3));
        assert_eq!(btf.tracepoint_arguments("no_such"), None);
    }

    /// Encodes types and strings with a header.
    fn btf(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let types_len = 4 * types.len() as u32;
        let header = [24, 0, types_len, types_len, strings.len() as u32];
        let mut bytes = [&MAGIC.to_ne_bytes()[..], &[1, 0]].concat();
        bytes.extend(header.iter().chain(types).flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    /// Number of members that a search visited.
    fn looked_at(bytes: &[u8]) -> usize {
        let btf = KernelBtf::parse(bytes).unwrap();
        let mut left = MAX_MEMBERS;
        let found = btf.member_within(btf.structure("s").unwrap(), "none", 0, &mut left);
        assert!(!matches!(found, Ok(Some(_))));
        MAX_MEMBERS - left
    }

    #[test]
    fn a_struct_that_contains_itself_is_searched_no_longer_than_others() {
        // `struct s` with 19 nameless members, each again `struct s`: 19 to the 16th members.
        let members = |count: u32, id: u32| (0..count).flat_map(move |_| [0, id, 0]);
        let itself: Vec<_> = [1, 4 << 24 | 19, 0].into_iter().chain(members(19, 1)).collect();
        let bytes = btf(&itself, b"\0s\0");
        assert_eq!(looked_at(&bytes), MAX_MEMBERS);
        let parsed = KernelBtf::parse(&bytes).unwrap();
        assert!(matches!(parsed.offset_of("s", "none"), Err(Error::Broken(_))));
        assert!(matches!(parsed.bit_of("s", "none"), Err(Error::Broken(_))));
        // Two structs that contain each other, one through a typedef.
        let each_other: Vec<_> = [1, 4 << 24 | 9, 0]
            .into_iter()
            .chain(members(9, 2))
            .chain([0, 8 << 24, 3, 0, 5 << 24 | 9, 0])
            .chain(members(9, 1))
            .collect();
        assert_eq!(looked_at(&btf(&each_other, b"\0s\0")), MAX_MEMBERS);
        // A chain without branches is stopped by the depth limit, and a typedef of itself by its own limit.
        let chain: Vec<_> = [1, 4 << 24 | 1, 0].into_iter().chain(members(1, 1)).collect();
        assert_eq!(looked_at(&btf(&chain, b"\0s\0")), MAX_DEPTH + 1);
        let typedef: Vec<_> = [1, 4 << 24 | 1, 0].into_iter().chain(members(1, 2)).chain([0, 8 << 24, 2]).collect();
        assert_eq!(looked_at(&btf(&typedef, b"\0s\0")), 1);
    }

    #[test]
    fn a_name_without_an_end_is_cut() {
        let name = vec![b'x'; 4 * MAX_NAME];
        let bytes = btf(&[0, 6 << 24 | 2, 4, 2, 7, 2, 8], &[b"e\0", &name[..]].concat());
        let values = KernelBtf::parse(&bytes).unwrap().enum_values("e");
        assert_eq!(values.len(), 2);
        assert!(values.iter().all(|(name, _)| name.len() == MAX_NAME));
    }

    #[test]
    fn cut_bytes_give_an_error_and_no_panic() {
        // header, then `struct s { int a; }` with the strings "", "s", "a", "int"
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24u32, 0, 12 + 4 + 24, 40, 9] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [5u32, 1 << 24, 4, 32, 1, 4 << 24 | 1, 4, 3, 1, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"\0s\0a\0int\0");
        let whole = KernelBtf::parse(&bytes).unwrap();
        assert_eq!(whole.offset_of("s", "a").unwrap(), 0);
        assert!(whole.offset_of("s", "a.b").is_err());
        for len in 0..bytes.len() {
            assert!(KernelBtf::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0xff;
            if let Ok(btf) = KernelBtf::parse(&broken) {
                let _ = btf.offset_of("s", "a");
            }
        }
    }
}
