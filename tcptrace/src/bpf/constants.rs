//! Patches constants into the instructions of the BPF object: offsets of kernel struct members, and settings of the
//! programs. See [`tcptrace_common::config::placeholder`].

use tcptrace_common::config::{Config, Layout, placeholder};
use thiserror::Error;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::elf;

/// Why the constants could not be patched in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("it is no ELF file of 64 bits, or cut short")]
    Elf,
    #[error("its instructions name field {0} of a layout that has fewer")]
    Field(usize),
    #[error("offset {0} of a member of the kernel does not fit into an instruction")]
    Offset(u32),
    #[error("constant {0:#x} does not fit into an instruction")]
    Value(u64),
}

/// Returns a copy of the object with `config` patched into its instructions, as `u64`s for alignment.
///
/// # Errors
/// If it is not an object of these programs, or an offset does not fit in an instruction.
pub(super) fn put(object: &[u8], config: &Config) -> Result<Vec<u64>, Error> {
    let mut words = vec![0u64; object.len().div_ceil(8)];
    words.as_mut_bytes().get_mut(..object.len()).ok_or(Error::Elf)?.copy_from_slice(object);
    for (start, len) in code_sections(object)? {
        let end = start.checked_add(len).ok_or(Error::Elf)?;
        let code = words.as_mut_bytes().get_mut(start..end).ok_or(Error::Elf)?;
        let mut instructions = code.chunks_exact_mut(8);
        while let Some(instruction) = instructions.next() {
            if put_into(instruction, config)? == LOAD_64 {
                instructions.next(); // the upper half of the 64-bit immediate
            }
        }
    }
    Ok(words)
}

/// `BPF_LD | BPF_DW | BPF_IMM`, the only 16-byte instruction.
const LOAD_64: u8 = 0x18;

/// Patches one instruction; returns its opcode.
fn put_into(instruction: &mut [u8], config: &Config) -> Result<u8, Error> {
    /// `BPF_LDX | BPF_MEM` for words of 4, 2, 1 and 8 bytes.
    const LOADS: [u8; 4] = [0x61, 0x69, 0x71, 0x79];
    /// `BPF_ALU64 | BPF_MOV | BPF_K`, and the same for 32 bits.
    const MOVES: [u8; 2] = [0xb7, 0xb4];
    let &mut [code, _, offset_low, offset_high, a, b, c, d] = instruction else {
        return Err(Error::Elf);
    };
    if LOADS.contains(&code)
        && let Some((number, plus)) = placeholder::as_member(i16::from_le_bytes([offset_low, offset_high]))
    {
        let offset = offsets(&config.layout).nth(number).ok_or(Error::Field(number))? + plus;
        let fits = i16::try_from(offset).map_err(|_| Error::Offset(offset))?;
        instruction[2..4].copy_from_slice(&fits.to_le_bytes());
    } else if MOVES.contains(&code)
        && let Some((start, size)) = placeholder::as_constant(i32::from_le_bytes([a, b, c, d]))
    {
        let bytes = config.as_bytes().get(start..start + size).ok_or(Error::Field(start))?;
        let mut value = [0; 8];
        value[..size].copy_from_slice(bytes);
        let value = u64::from_le_bytes(value);
        // The programs use only the bytes of the constant's own size, so that sign extension does not matter.
        let fits = u32::try_from(value).map_err(|_| Error::Value(value))?;
        instruction[4..8].copy_from_slice(&fits.to_le_bytes());
    }
    Ok(code)
}

fn offsets(layout: &Layout) -> impl Iterator<Item = u32> {
    layout.as_bytes().chunks_exact(4).filter_map(|bytes| u32::read_from_bytes(bytes).ok())
}

/// Offset and length of each section that holds instructions.
fn code_sections(elf: &[u8]) -> Result<Vec<(usize, usize)>, Error> {
    let has_code = |section: &elf::Section<'_>| section.kind == elf::PROGBITS && section.flags & elf::EXECINSTR != 0;
    let sections = elf::sections(elf).ok_or(Error::Elf)?.into_iter().filter(has_code);
    Ok(sections.map(|section| (section.start, section.len)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::OBJECT;

    /// A layout in which the offset of each member is 8 times its index.
    fn config() -> Config {
        let mut config = Config { hz: 250, features: 0xf000_0001, ..Config::default() };
        for (number, word) in config.layout.as_mut_bytes().chunks_exact_mut(4).enumerate() {
            word.copy_from_slice(&(8 * number as u32).to_le_bytes());
        }
        config
    }

    fn instruction(code: u8, offset: u32, immediate: u32) -> [u8; 8] {
        let ([low, high], [a, b, c, d]) = ((offset as u16).to_le_bytes(), immediate.to_le_bytes());
        [code, 0, low, high, a, b, c, d]
    }

    #[test]
    fn loads_get_the_offsets_of_members() {
        for (eights, want) in [(0, 24), (1, 32)] {
            let mut load = instruction(0x69, placeholder::member(3, eights), 7);
            put_into(&mut load, &config()).unwrap();
            assert_eq!(load, instruction(0x69, want, 7));
        }
        let mut other = instruction(0x69, 511, placeholder::constant(0, 4));
        put_into(&mut other, &config()).unwrap();
        assert_eq!(other, instruction(0x69, 511, placeholder::constant(0, 4)), "a load has no constant");
    }

    #[test]
    fn moves_get_constants_of_their_size() {
        for (offset, size, want) in [
            (std::mem::offset_of!(Config, hz), 4, 250),
            (std::mem::offset_of!(Config, features), 4, 0xf000_0001),
            (std::mem::offset_of!(Config, features), 1, 1),
        ] {
            let mut load = instruction(0xb7, 0, placeholder::constant(offset as u32, size));
            put_into(&mut load, &config()).unwrap();
            assert_eq!(load, instruction(0xb7, 0, want));
        }
        let mut other = instruction(0xb7, placeholder::member(3, 0), 250);
        put_into(&mut other, &config()).unwrap();
        assert_eq!(other, instruction(0xb7, placeholder::member(3, 0), 250));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fields = size_of::<Layout>() / 4;
        let mut load = instruction(0x61, placeholder::member(fields as u32, 0), 0);
        assert_eq!(put_into(&mut load, &config()), Err(Error::Field(fields)));
        let mut far = config();
        far.layout.sock_common_skc_family = 0x8000;
        assert_eq!(put_into(&mut instruction(0x61, placeholder::member(0, 0), 0), &far), Err(Error::Offset(0x8000)));
        let outside = size_of::<Config>() - 2;
        let mut load = instruction(0xb7, 0, placeholder::constant(outside as u32, 4));
        assert_eq!(put_into(&mut load, &config()), Err(Error::Field(outside)));
    }

    #[test]
    fn the_object_has_all_its_constants_afterwards() {
        let places = |bytes: &[u8]| {
            let mut count = 0;
            for (start, len) in code_sections(bytes).unwrap() {
                let mut code = bytes[start..start + len].chunks_exact(8);
                while let Some(&[code_byte, _, low, high, a, b, c, d]) = code.next() {
                    count += u32::from(placeholder::as_member(i16::from_le_bytes([low, high])).is_some());
                    let moves = code_byte == 0xb7 || code_byte == 0xb4;
                    count += u32::from(moves && placeholder::as_constant(i32::from_le_bytes([a, b, c, d])).is_some());
                    if code_byte == LOAD_64 {
                        code.next();
                    }
                }
            }
            count
        };
        assert!(places(OBJECT) > 100);
        assert_eq!(places(put(OBJECT, &config()).unwrap().as_bytes()), 0);
    }

    #[test]
    fn other_bytes_are_no_object() {
        for bytes in [&b""[..], b"\x7fELF\x02\x01", &OBJECT[..OBJECT.len() / 2], &[0; 4096]] {
            assert_eq!(put(bytes, &config()), Err(Error::Elf));
        }
    }
}
