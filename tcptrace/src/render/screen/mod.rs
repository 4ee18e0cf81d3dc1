//! The screen of `tcptrace top`: what it shows of a moment, as characters with styles, and what keys do to it.
//!
//! [`State`] is what the user has chosen (the tab, the order, the row, an open page), [`Scene`] what there is to show.
//! [`State::on_key`] changes the one, [`State::draw`] draws both into a buffer. For example, the key `2` and then `A` shows
//! the sockets, the youngest first. Nothing here knows a terminal, a clock or a session, so that tests compare whole
//! screens.
//!
//! No information is in colour alone: the chosen row has a mark, severities and states their names.

mod command;
mod findings;
mod help;
mod keys;
mod page;
mod processes;
mod prompt;
mod rates;
mod scene;
mod services;
mod sockets;
mod state;
mod states;
mod tab;
mod table;
mod theme;
mod timeline;
mod view;

pub use command::{Place, quoted};
pub use keys::{Action, TimeKey};
pub use page::Page;
pub use prompt::FilterError;
pub use scene::{FindingLine, Scene};
pub use state::State;
pub use tab::Tab;
pub use timeline::Timeline;
pub use view::{LEAST_COLUMNS, LEAST_ROWS};
