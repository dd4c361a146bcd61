//! Whether a number that somebody typed can be one at all, by the numbering plans of the world.
//!
//! Asked only about what people type: WhatsApp knows numbers of ranges that no table has yet, so what it writes itself
//! is never judged here. The table is loaded by the first question.

use phonenumber::metadata::DATABASE;

use super::{Phone, PhoneError};

/// No country has this code; networks for tests take their numbers from it.
const NOBODYS: &str = "999";
/// Digits that a number may have beyond its plan: WhatsApp keeps prefixes that plans have dropped, as in `+52 1 …`.
const DROPPED_PREFIX: usize = 1;

/// Whether its country code exists and its length is one that numbers there can have.
pub(super) fn possible(phone: &Phone) -> Result<(), PhoneError> {
    let digits = phone.digits();
    if digits.starts_with(NOBODYS) {
        return Ok(());
    }
    // No code begins another, so at most one of the three is a country's.
    let plans = (1..=3).find_map(|length| {
        let (code, national) = digits.split_at_checked(length)?;
        Some((DATABASE.by_code(&code.parse().ok()?)?, national.len()))
    });
    let Some((plans, length)) = plans else {
        return Err(PhoneError::UnknownCountry);
    };
    let lengths = || {
        let kinds = plans.iter().flat_map(|plan| {
            let kinds = plan.descriptors();
            [
                kinds.fixed_line(),
                kinds.mobile(),
                kinds.voip(),
                kinds.personal_number(),
            ]
        });
        let lengths = kinds.flatten().flat_map(|kind| kind.possible_length());
        lengths.map(|length| usize::from(*length))
    };
    // A plan without lengths says nothing about them.
    let shortest = lengths().min().unwrap_or(0);
    let longest = lengths().max().unwrap_or(usize::MAX - DROPPED_PREFIX);
    if (shortest..=longest + DROPPED_PREFIX).contains(&length) {
        Ok(())
    } else {
        Err(PhoneError::ImpossibleLength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_many_countries() {
        for text in [
            "+1 555 123 4567",
            "+44 (0)20 7946 0958",
            "+49 151 23456789",
            "+39 06 1234 5678",
            "+7 495 123-45-67",
            "+55 11 91234-5678",
            "+55 11 1234-5678",
            "+52 55 1234 5678",
            "+52 1 55 1234 5678",
            "+54 9 11 1234-5678",
            "+91 98765 43210",
            "+86 131 2345 6789",
            "+65 8123 4567",
            "+247 40123",
            "+883 510 012345",
            "+999 1234567890",
        ] {
            let phone: Phone = text.parse().unwrap();
            assert_eq!(possible(&phone), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_nobody_can_have() {
        for (text, error) in [
            ("+210 123 4567", PhoneError::UnknownCountry),
            ("+800 1", PhoneError::Length),
            ("+1 555 1234", PhoneError::ImpossibleLength),
            ("+1 555 123 456 789", PhoneError::ImpossibleLength),
            ("+33 6 12 34", PhoneError::ImpossibleLength),
            ("+65 8123 4567 890", PhoneError::ImpossibleLength),
        ] {
            let found = text.parse().and_then(|phone| possible(&phone));
            assert_eq!(found, Err(error), "{text}");
        }
    }
}
