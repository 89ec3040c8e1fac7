//! The binary as a person meets it: settings that do not hold, and the life of `odock up`.

#[cfg(test)]
mod house;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod up;
