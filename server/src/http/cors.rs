//! CORS: the headers that let pages of other origins read responses.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Header, Method, Status};
use rocket::{Request, Response};

use super::origins::AllowedOrigins;
use super::rules;

/// Adds CORS headers for allowed origins, and answers preflights.
pub struct Cors(pub AllowedOrigins);

#[rocket::async_trait]
impl Fairing for Cors {
    fn info(&self) -> Info {
        Info { name: "CORS", kind: Kind::Response }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        rules::set_security_headers(request, response);
        let Some(origin) = request.headers().get_one("Origin") else { return };
        response.adjoin_header(Header::new("Vary", "Origin"));
        if !self.0.allows(Some(origin), request.headers().get_one("Host")) {
            return;
        }
        response.set_header(Header::new("Access-Control-Allow-Origin", origin.to_owned()));
        response.set_header(Header::new("Access-Control-Expose-Headers", "X-Request-Id, Retry-After"));
        if request.method() == Method::Options && request.headers().contains("Access-Control-Request-Method") {
            response.set_status(Status::NoContent);
            response.set_header(Header::new("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE"));
            response
                .set_header(Header::new("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID"));
            response.set_header(Header::new("Access-Control-Max-Age", "600"));
        }
    }
}
