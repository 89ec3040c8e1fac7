//! Money: reservations, denials, windows, over one gateway and several.

mod changes;
mod crowd;
mod owners;
mod windows;
