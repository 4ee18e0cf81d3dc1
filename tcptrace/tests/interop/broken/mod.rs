//! The same programs broken, as operators meet them. Each trouble must be named in time, with the right process and
//! cause, and nothing else may be said.

use std::{thread, time::Duration};

pub(crate) mod failing;
pub(crate) mod waiting;

fn sleep(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}
