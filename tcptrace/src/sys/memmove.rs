//! `memcpy` and `memmove` for static programs on x86-64. musl's begin with `rep movsq`, which costs more than the copy
//! of a few bytes itself: 41 % of the time in which recorded events became JSON. On aarch64, musl has fast ones.

/// Up to 128 bytes everything is read before anything is written, from the start and back from the end, so that parts
/// may overlap. Beyond that 64 bytes at a time, in the direction in which no source byte is overwritten before it is
/// read; the last 64 bytes of that direction are read first.
macro_rules! memmove {
    ($($name:literal),*) => {
        std::arch::global_asm!(
            ".pushsection .text.memmove,\"ax\",@progbits",
            ".p2align 5",
            $(concat!(".globl ", $name), concat!(".type ", $name, ",@function"), concat!($name, ":"),)*
            "mov rax, rdi",
            "cmp rdx, 16",
            "jb 2f",
            "cmp rdx, 32",
            "ja 5f",
            // 16 to 32
            "movups xmm0, [rsi]",
            "movups xmm1, [rsi + rdx - 16]",
            "movups [rdi], xmm0",
            "movups [rdi + rdx - 16], xmm1",
            "ret",
            "2:",
            "cmp edx, 8",
            "jb 3f",
            // 8 to 15
            "mov rcx, [rsi]",
            "mov r8, [rsi + rdx - 8]",
            "mov [rdi], rcx",
            "mov [rdi + rdx - 8], r8",
            "ret",
            "3:",
            "cmp edx, 4",
            "jb 4f",
            // 4 to 7
            "mov ecx, [rsi]",
            "mov r8d, [rsi + rdx - 4]",
            "mov [rdi], ecx",
            "mov [rdi + rdx - 4], r8d",
            "ret",
            "4:",
            "test edx, edx",
            "je 9f",
            // 1 to 3: the first, the middle and the last one
            "mov r10d, edx",
            "shr r10d, 1",
            "movzx ecx, byte ptr [rsi]",
            "movzx r8d, byte ptr [rsi + r10]",
            "movzx r9d, byte ptr [rsi + rdx - 1]",
            "mov [rdi], cl",
            "mov [rdi + r10], r8b",
            "mov [rdi + rdx - 1], r9b",
            "9:",
            "ret",
            "5:",
            "movups xmm0, [rsi]",
            "movups xmm1, [rsi + 16]",
            "movups xmm6, [rsi + rdx - 32]",
            "movups xmm7, [rsi + rdx - 16]",
            "cmp rdx, 64",
            "ja 6f",
            // 33 to 64
            "movups [rdi], xmm0",
            "movups [rdi + 16], xmm1",
            "movups [rdi + rdx - 32], xmm6",
            "movups [rdi + rdx - 16], xmm7",
            "ret",
            "6:",
            "movups xmm2, [rsi + 32]",
            "movups xmm3, [rsi + 48]",
            "movups xmm4, [rsi + rdx - 64]",
            "movups xmm5, [rsi + rdx - 48]",
            "cmp rdx, 128",
            "ja 7f",
            // 65 to 128
            "movups [rdi], xmm0",
            "movups [rdi + 16], xmm1",
            "movups [rdi + 32], xmm2",
            "movups [rdi + 48], xmm3",
            "movups [rdi + rdx - 64], xmm4",
            "movups [rdi + rdx - 48], xmm5",
            "movups [rdi + rdx - 32], xmm6",
            "movups [rdi + rdx - 16], xmm7",
            "ret",
            "7:",
            "lea r8, [rdi + rdx - 64]", // where the last 64 bytes go
            "mov rcx, rdi",
            "sub rcx, rsi",
            "cmp rcx, rdx",
            "jb 8f", // it begins within the source: from the end
            "9:",
            "movups xmm0, [rsi]",
            "movups xmm1, [rsi + 16]",
            "movups xmm2, [rsi + 32]",
            "movups xmm3, [rsi + 48]",
            "movups [rdi], xmm0",
            "movups [rdi + 16], xmm1",
            "movups [rdi + 32], xmm2",
            "movups [rdi + 48], xmm3",
            "add rsi, 64",
            "add rdi, 64",
            "cmp rdi, r8",
            "jb 9b",
            "movups [r8], xmm4",
            "movups [r8 + 16], xmm5",
            "movups [r8 + 32], xmm6",
            "movups [r8 + 48], xmm7",
            "ret",
            "8:",
            "lea rsi, [rsi + rdx - 64]",
            "9:",
            "movups xmm4, [rsi]",
            "movups xmm5, [rsi + 16]",
            "movups xmm6, [rsi + 32]",
            "movups xmm7, [rsi + 48]",
            "movups [r8], xmm4",
            "movups [r8 + 16], xmm5",
            "movups [r8 + 32], xmm6",
            "movups [r8 + 48], xmm7",
            "sub rsi, 64",
            "sub r8, 64",
            "cmp r8, rdi",
            "ja 9b",
            "movups [rdi], xmm0",
            "movups [rdi + 16], xmm1",
            "movups [rdi + 32], xmm2",
            "movups [rdi + 48], xmm3",
            "ret",
            ".popsection",
        );
    };
}

#[cfg(target_env = "musl")]
memmove!("memcpy", "memmove");

#[cfg(test)]
mod tests {
    memmove!("tcptrace_memmove");

    unsafe extern "C" {
        fn tcptrace_memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    }

    #[test]
    fn it_moves_what_it_should_and_no_more() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        for len in (0..=300).chain([511, 512, 513, 600]) {
            for (from, to) in
                [(0, 350), (350, 0), (40, 40), (40, 41), (41, 40), (7, 40), (40, 7), (1, 65), (70, 6), (0, 130)]
            {
                let mut expected = bytes.clone();
                expected.copy_within(from..from + len, to);
                let mut moved = bytes.clone();
                let start = moved.as_mut_ptr();
                // SAFETY: both ranges lie within the vector.
                let returned = unsafe { tcptrace_memmove(start.add(to), start.add(from), len) };
                assert_eq!(returned, start.wrapping_add(to));
                assert!(moved == expected, "{len} bytes from {from} to {to}");
            }
        }
    }
}
