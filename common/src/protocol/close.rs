//! The reasons for which a connection is closed.

/// Why a connection is closed, by its close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseReason {
    /// One side closed the connection in order.
    Normal = 1000,
    /// The server shuts down.
    GoingAway = 1001,
    /// The peer broke the WebSocket protocol.
    ProtocolError = 1002,
    /// A text frame was not UTF-8.
    NotUtf8 = 1007,
    /// A frame was longer than [`MAX_CLIENT_MESSAGE`](super::MAX_CLIENT_MESSAGE).
    TooBig = 1009,
    /// The token has expired.
    TokenExpired = 4001,
    /// The client's permission was withdrawn.
    Forbidden = 4003,
    /// The token was revoked.
    TokenRevoked = 4011,
    /// An admin ended the connection.
    Kicked = 4012,
    /// The client reads too slowly.
    TooSlow = 4101,
    /// The client sends too many messages.
    RateExceeded = 4102,
    /// The storage does not answer.
    StorageDown = 4104,
    /// No pong came in time.
    PongTimeout = 4201,
}

impl CloseReason {
    const ALL: [Self; 13] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::NotUtf8,
        Self::TooBig,
        Self::TokenExpired,
        Self::Forbidden,
        Self::TokenRevoked,
        Self::Kicked,
        Self::TooSlow,
        Self::RateExceeded,
        Self::StorageDown,
        Self::PongTimeout,
    ];

    /// Returns the close code.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Returns the reason with this close code.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Returns the text of the close frame.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::GoingAway => "server going away",
            Self::ProtocolError => "protocol error",
            Self::NotUtf8 => "text is not UTF-8",
            Self::TooBig => "frame over 64 KiB",
            Self::TokenExpired => "token expired",
            Self::Forbidden => "forbidden",
            Self::TokenRevoked => "token revoked",
            Self::Kicked => "ended by an admin",
            Self::TooSlow => "too slow",
            Self::RateExceeded => "too many messages",
            Self::StorageDown => "storage down",
            Self::PongTimeout => "no pong",
        }
    }
}
