//! Each rule just below its threshold and at it, and what it gives then.

mod accept_queue;
mod closing;
mod connecting;
mod killed;
mod listening;
mod loss;
mod pressure;
mod reading;
mod resets;
mod silence;
mod window;
