//! tcptrace
use tcptrace::bpf::probes::*;
fn main() {
    let s = ProbeSettings { ring_bytes: 8<<20, wake_bytes: 1<<20, max_sockets: 1<<20, filter: KernelFilter::default(), log_level: None };
    match Probes::attach(&s) {
        Ok((p, mut c)) => { println!("missing {:?}", p.missing); std::thread::sleep(std::time::Duration::from_secs(3)); let mut n=0; while let Some(i)=c.ring.next() { n+=1; if n < 30 {println!("{} {:?}", i[0], &i[32..])} } println!("{:?}", c.counters()); }
        Err(e) => println!("{e}"),
    }
}
