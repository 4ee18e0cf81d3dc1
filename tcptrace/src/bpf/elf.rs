//! Reads and edits the BPF object as an ELF file before aya loads it.

/// A section of a 64-bit ELF file in native byte order (`Elf64_Shdr` of `elf(5)`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    /// Section name, without the NUL.
    pub(super) name: &'a [u8],
    /// `sh_type`.
    pub(super) kind: u32,
    /// `sh_flags`.
    pub(super) flags: u64,
    /// For relocations, the index of the section that they apply to.
    pub(super) about: usize,
    /// Offset of its content in the file.
    pub(super) start: usize,
    /// Length of its content in bytes.
    pub(super) len: usize,
    /// Offset of its header in the file.
    header: usize,
}

/// `SHT_PROGBITS`.
pub(super) const PROGBITS: u32 = 1;
/// `SHF_EXECINSTR`.
pub(super) const EXECINSTR: u64 = 4;
/// `SHT_RELA` and `SHT_REL`.
const RELOCATIONS: [u32; 2] = [4, 9];
/// Function and line info: tells the kernel and aya which function and which source line each instruction belongs to.
const BTF_EXT: &[u8] = b".BTF.ext";
/// Offset of the length of the line info in its header (`struct btf_ext_header` of libbpf).
const LINES_LEN: usize = 20;

/// Reads a little-endian number of up to eight bytes.
fn number(elf: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = elf.get(at..at.checked_add(size)?)?;
    let mut value = [0; 8];
    value[..size].copy_from_slice(bytes);
    Some(u64::from_le_bytes(value))
}

/// All sections; `None` if the bytes are not such a file, or truncated.
pub(super) fn sections(elf: &[u8]) -> Option<Vec<Section<'_>>> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let place = |at: usize, size: usize| usize::try_from(number(elf, at, size)?).ok();
    let (table, size, count, names) = (place(0x28, 8)?, place(0x3a, 2)?, place(0x3c, 2)?, place(0x3e, 2)?);
    let header = |index: usize| table.checked_add(index.checked_mul(size)?);
    let names = place(header(names)?.checked_add(0x18)?, 8)?;
    (0..count)
        .map(|index| {
            let header = header(index)?;
            let of = |at: usize, size: usize| number(elf, header.checked_add(at)?, size);
            let name = elf.get(names.checked_add(usize::try_from(of(0, 4)?).ok()?)?..)?;
            Some(Section {
                name: name.split(|byte| *byte == 0).next()?,
                kind: of(4, 4)? as u32,
                flags: of(8, 8)?,
                about: of(0x2c, 4)? as usize,
                start: usize::try_from(of(0x18, 8)?).ok()?,
                len: usize::try_from(of(0x20, 8)?).ok()?,
                header,
            })
        })
        .collect()
}

/// Removes the line info, which only the verifier's log uses and which takes a good part of the loading time. Leaves
/// the bytes unchanged if they are not an ELF file.
pub(super) fn forget_lines(elf: &mut [u8]) {
    let found = sections(elf).unwrap_or_default();
    let Some(index) = found.iter().position(|section| section.name == BTF_EXT) else {
        return;
    };
    // aya reads the relocations of this section too, but does not need them.
    let is_unused = |section: &&Section<'_>| RELOCATIONS.contains(&section.kind) && section.about == index;
    let kinds: Vec<_> = found.iter().filter(is_unused).map(|section| section.header.saturating_add(4)).collect();
    for at in kinds.into_iter().chain([found[index].start.saturating_add(LINES_LEN)]) {
        if let Some(word) = elf.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *word = [0; 4];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::OBJECT;

    #[test]
    fn lines_are_forgotten_and_functions_are_not() {
        let lens = |elf: &[u8]| {
            let found = sections(elf).unwrap();
            let extension = found.iter().find(|section| section.name == BTF_EXT).unwrap();
            let len = |at: usize| number(elf, extension.start + at, 4).unwrap();
            (len(12), len(LINES_LEN))
        };
        let mut elf = OBJECT.to_vec();
        let (functions, lines) = lens(&elf);
        assert!(functions > 0 && lines > 0);
        forget_lines(&mut elf);
        assert_eq!(lens(&elf), (functions, 0));
        let before: Vec<_> = sections(OBJECT).unwrap().iter().map(|section| section.kind).collect();
        let after: Vec<_> = sections(&elf).unwrap().iter().map(|section| section.kind).collect();
        assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
    }

    #[test]
    fn other_bytes_have_no_sections() {
        for bytes in [&b""[..], b"\x7fELF\x02\x01", &OBJECT[..OBJECT.len() / 2], &[0; 4096]] {
            assert!(sections(bytes).is_none());
            let mut copy = bytes.to_vec();
            forget_lines(&mut copy);
            assert_eq!(copy, bytes);
        }
        // Whichever header byte is corrupted, nothing outside is read or written.
        for at in 0..64 {
            let mut elf = OBJECT.to_vec();
            elf[at] ^= 0xff;
            forget_lines(&mut elf);
        }
    }
}
