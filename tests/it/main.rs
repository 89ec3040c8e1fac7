//! The end-to-end tests: one module per area, each test against the real binary. A test that shows a line of the
//! product's checklist is named `line_<number>_<phrase>`; `tests/coverage_of_lines.py` lists them.

mod admin;
mod budgets;
mod faults;
mod gateway;
mod governance;
mod kills;
mod limits;
mod safety;
mod sdk;
mod soak;
#[cfg(test)]
mod tidy;
