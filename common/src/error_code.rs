//! The codes of errors.

use crate::text_enum::text_enum;

text_enum! {
    /// The `code` of an error: of an HTTP answer, or of a message on the WebSocket.
    ErrorCode, "code of an error" {
        /// The token is missing or not valid.
        AuthenticationFailed = "AUTHENTICATION_FAILED",
        /// The body of the delivery was dropped.
        BodyDropped = "BODY_DROPPED",
        /// The body did not arrive in time.
        BodyTimeout = "BODY_TIMEOUT",
        /// The call changed during the request, so nothing was done.
        CallChanged = "CALL_CHANGED",
        /// An ended call accepts only `completed` or `failed`.
        CallEnded = "CALL_ENDED",
        /// The record was merged into another call.
        CallMerged = "CALL_MERGED",
        /// No call has that identifier.
        CallNotFound = "CALL_NOT_FOUND",
        /// No connection has that id.
        ConnectionNotFound = "CONNECTION_NOT_FOUND",
        /// The cursor belongs to another record, or lies beyond the head.
        CursorInvalid = "CURSOR_INVALID",
        /// No delivery has that id.
        DeliveryNotFound = "DELIVERY_NOT_FOUND",
        /// Another error, which the HTTP status describes.
        Error = "ERROR",
        /// The token does not allow the request.
        Forbidden = "FORBIDDEN",
        /// The `Idempotency-Key` was used with another body.
        IdempotencyConflict = "IDEMPOTENCY_CONFLICT",
        /// Another call has the identifier.
        IdentifierTaken = "IDENTIFIER_TAKEN",
        /// The server failed.
        Internal = "INTERNAL",
        /// The text is not an identifier.
        InvalidIdentifier = "INVALID_IDENTIFIER",
        /// The text is not a message of the WebSocket's protocol.
        InvalidMessageFormat = "INVALID_MESSAGE_FORMAT",
        /// The webhook cannot be read.
        InvalidPayload = "INVALID_PAYLOAD",
        /// The request cannot be read.
        InvalidRequest = "INVALID_REQUEST",
        /// The path exists for other methods.
        MethodNotAllowed = "METHOD_NOT_ALLOWED",
        /// No recording of the call was received.
        NoAudio = "NO_AUDIO",
        /// The provider sent no transcript of the call.
        NoTranscript = "NO_TRANSCRIPT",
        /// There is no such path.
        NotFound = "NOT_FOUND",
        /// The body is too large.
        PayloadTooLarge = "PAYLOAD_TOO_LARGE",
        /// The client sent too many requests or messages in a second.
        RateLimited = "RATE_LIMITED",
        /// The signature of a webhook is missing, wrong or too old.
        SignatureInvalid = "SIGNATURE_INVALID",
        /// The server could not subscribe at present.
        SubscriptionFailed = "SUBSCRIPTION_FAILED",
        /// The connection has the maximum number of subscriptions.
        SubscriptionLimit = "SUBSCRIPTION_LIMIT",
        /// The token or the address has the maximum number of connections.
        TooManyConnections = "TOO_MANY_CONNECTIONS",
        /// The transcript is longer than an answer may be.
        TranscriptTooLarge = "TRANSCRIPT_TOO_LARGE",
        /// The server cannot answer at present.
        Unavailable = "UNAVAILABLE",
        /// The path takes only an upgrade to a WebSocket.
        UpgradeRequired = "UPGRADE_REQUIRED",
    }
}
