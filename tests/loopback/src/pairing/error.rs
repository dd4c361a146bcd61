//! Why linking fails.

/// Why a simulated phone could not link a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairError {
    /// The text is not that of a QR of this kind.
    NotAQr,
    /// No connection shows this QR now.
    UnknownQr,
    /// The QR was shown, and has been replaced by a later one.
    ExpiredQr,
    /// No client waits for a code of this phone number.
    NoCodeWanted,
    /// The code is not the one that the client shows.
    WrongCode,
    /// The phone number is not one.
    BadPhone,
    /// The account or the server has no room.
    Full,
    /// The client went away, or did not answer in time.
    Gone,
}

impl std::fmt::Display for PairError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAQr => "not the text of a linking QR",
            Self::UnknownQr => "no client shows this QR",
            Self::ExpiredQr => "this QR has expired",
            Self::NoCodeWanted => "no client waits for a code for this phone number",
            Self::WrongCode => "the code is wrong",
            Self::BadPhone => "not a phone number: digits only, 5 to 15 of them",
            Self::Full => "no room for another device or account",
            Self::Gone => "the client went away or did not answer in time",
        })
    }
}

impl std::error::Error for PairError {}
