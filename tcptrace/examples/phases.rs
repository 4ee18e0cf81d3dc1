use std::time::Instant;
use tcptrace::bpf::btf::{self, KernelBtf};
use tcptrace::bpf::kernel::Kernel;
fn main() {
    for _ in 0..3 {
        let t = Instant::now();
        let bytes = std::fs::read(btf::VMLINUX).unwrap();
        eprintln!("read {:?}", t.elapsed());
        let t = Instant::now();
        let parsed = KernelBtf::parse(&bytes).unwrap();
        eprintln!("parse {:?}", t.elapsed());
        let t = Instant::now();
        let _k = Kernel::from_btf(&parsed).unwrap();
        eprintln!("resolve {:?}", t.elapsed());
        let t = Instant::now();
        let ids = parsed.ids_of(&[
            "bpf_iter_tcp",
            "bpf_iter_task_file",
            "inet_csk_accept",
            "btf_trace_a",
            "btf_trace_b",
            "c",
            "d",
            "e",
            "f",
            "g",
        ]);
        eprintln!("ids {:?} {}", t.elapsed(), ids.len());
        let t = Instant::now();
        let b = aya::Btf::parse(&ids, aya::Endianness::default()).unwrap();
        eprintln!("aya parse {:?}", t.elapsed());
        let t = Instant::now();
        let _l = aya::EbpfLoader::new();
        eprintln!("loader new {:?}", t.elapsed());
        let t = Instant::now();
        drop(_l);
        eprintln!("loader drop {:?}", t.elapsed());
        let _ = b;
    }
}
