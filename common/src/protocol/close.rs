//! The reasons for which a connection is closed.

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// 1000: either side is done.
    Normal,
    /// 1001: the server goes away.
    GoingAway,
    /// 1002: the peer broke the WebSocket protocol.
    ProtocolError,
    /// 1007: a text frame was not UTF-8.
    NotUtf8,
    /// 1009: a frame was longer than [`MAX_CLIENT_MESSAGE`](super::MAX_CLIENT_MESSAGE).
    TooBig,
    /// 4001: the token's time ran out.
    TokenExpired,
    /// 4003: rights were withdrawn.
    Forbidden,
    /// 4011: the token was revoked.
    TokenRevoked,
    /// 4012: an admin ended the connection.
    Kicked,
    /// 4101: the client reads too slowly.
    TooSlow,
    /// 4102: the client sends too much.
    RateExceeded,
    /// 4104: the storage is down.
    StorageDown,
    /// 4201: no pong came in time.
    PongTimeout,
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

    /// The close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::TokenExpired => 4001,
            Self::Forbidden => 4003,
            Self::TokenRevoked => 4011,
            Self::Kicked => 4012,
            Self::TooSlow => 4101,
            Self::RateExceeded => 4102,
            Self::StorageDown => 4104,
            Self::PongTimeout => 4201,
        }
    }

    /// The reason of a close code; `None` for a code that is none of these.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The close frame's text.
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
