use std::time::Instant;
use tcptrace::{bpf::iterators::Iterators, listing::entry, now, state::StateSet};
fn main() {
    let t = Instant::now();
    let mut it = match Iterators::alone() {
        Ok(i) => i,
        Err(e) => {
            eprintln!("{e}");
            return;
        }
    };
    eprintln!("load {:?}", t.elapsed());
    let t = Instant::now();
    let h = it.holders(false).unwrap();
    eprintln!("holders {:?} {}", t.elapsed(), h.len());
    let t = Instant::now();
    let s = it.sockets(StateSet::default()).unwrap();
    eprintln!("sockets {:?} {}", t.elapsed(), s.len());
    let (h, b) = entry::holders(&h);
    let (s, b2) = entry::sockets(&s, now::tick_ns());
    eprintln!("{} {} broken {b} {b2}", h.len(), s.len());
    for s in s.iter().take(8) {
        println!("{s:?}");
    }
    for h in h.iter().take(8) {
        println!("{h:?}");
    }
}
