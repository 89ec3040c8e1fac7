//! Numbers: the grammar of RFC 8259, and the refusal of those beyond any `f64`.

use std::ops::Range;

use super::{Cursor, ScanError};

/// Every number below 10^308 fits, so most need no conversion to be sure of it.
const SURELY_FINITE_EXPONENT: i64 = 308;

impl Cursor<'_> {
    /// Reads a number; the next byte must be `-` or a digit, as [`Cursor::peek`] says.
    pub fn number(&mut self) -> Result<Range<usize>, ScanError> {
        self.skip_white_space();
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        let whole = if self.byte() == Some(b'0') {
            self.at += 1;
            1
        } else {
            self.digits()?
        };
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let exponent = if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.exponent()?
        } else {
            0
        };
        let range = start..self.at;
        if (whole as i64).saturating_add(exponent) > SURELY_FINITE_EXPONENT
            && !self
                .slice(range.clone())
                .parse::<f64>()
                .is_ok_and(f64::is_finite)
        {
            return Err(ScanError::NumberOutOfRange(start));
        }
        Ok(range)
    }

    /// Reads a number that has neither fraction nor exponent and fits; `None` if it is a number of another kind.
    pub fn unsigned(&mut self) -> Result<Option<u64>, ScanError> {
        let range = self.number()?;
        Ok(self.slice(range).parse().ok())
    }

    fn digits(&mut self) -> Result<usize, ScanError> {
        let count = self
            .rest()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.at += count;
        match (count, self.byte()) {
            (0, None) => Err(ScanError::UnexpectedEnd),
            (0, Some(_)) => Err(self.unexpected("a digit")),
            (count, _) => Ok(count),
        }
    }

    /// The exponent's value, held at the ends of what matters here.
    fn exponent(&mut self) -> Result<i64, ScanError> {
        let negative = self.byte() == Some(b'-');
        self.at += usize::from(matches!(self.byte(), Some(b'-' | b'+')));
        let start = self.at;
        self.digits()?;
        if negative {
            return Ok(0);
        }
        Ok(self
            .slice(start..self.at)
            .bytes()
            .fold(0_i64, |value, digit| {
                value
                    .saturating_mul(10)
                    .saturating_add(i64::from(digit - b'0'))
            }))
    }
}
