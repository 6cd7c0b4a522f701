//! The texts of `help exit-codes`, `environment`, `output` and `keys`.

use crate::command::man::Topic;

/// What `help` says of a topic.
pub(crate) fn text(topic: Topic) -> String {
    match topic {
        Topic::ExitCodes => EXIT_CODES.to_owned(),
        Topic::Environment => environment(),
        Topic::Output => OUTPUT.to_owned(),
        Topic::Keys => keys(),
    }
}

const EXIT_CODES: &str = "\
Exit codes

    0  ok; also when the reader of a pipe has seen enough
    1  something went wrong that has no code of its own, such as a full disk
    2  the command line or a setting makes no sense
    3  no such call, connection, context, file or sample
    4  no token, a bad one, or one without the right
    5  no server answers
    6  the stream broke and is not taken up again
    7  the call failed (tail --exit-status)
    8  a check said no: doctor, webhook verify, replay --expect
  130  interrupted
";

fn environment() -> String {
    let file = crate::config::path();
    let file =
        file.map_or("nowhere: neither XDG_CONFIG_HOME nor HOME is set".into(), |path| path.display().to_string());
    format!(
        "\
Environment

  CALLSCOPE_SERVER          the server, where neither --server nor --context names one
  CALLSCOPE_TOKEN           the access token, where neither --token-file nor --context gives one
  CALLSCOPE_WEBHOOK_SECRET  signs what replay sends, where there is no --secret-file
  NO_COLOR                  no colours, if set to anything
  CLICOLOR_FORCE            colours in pipes too, if set to anything but 0
  HTTP_PROXY, HTTPS_PROXY   the proxy to a server of http:// or https://; ALL_PROXY: to both; NO_PROXY: names the exceptions
  SSL_CERT_FILE, …_DIR      trusted certificates instead of the system's
  TERM                      dumb: no colours and nothing full-screen
  XDG_CONFIG_HOME, HOME     where the contexts are kept

The server is the first of: --server, --context, CALLSCOPE_SERVER, the context in use, http://127.0.0.1:8000.
The token is the first of: --token-file, that of --context, CALLSCOPE_TOKEN, that of the context in use.
A context's token goes to no other server.

Contexts: {}
",
        callscope_common::text::one_line(&file)
    )
}

const OUTPUT: &str = "\
Output

Data goes to stdout, everything else to stderr, so that a pipe gets data alone. -q leaves only what went wrong.

  -o table   columns under a header; cut at the terminal's width, whole in a pipe
  -o text    the same without a header, a tab between the columns
  -o json    one document, as the server sent it
  -o ndjson  one document a line

What comes from calls is untrusted: in tables and text, escape sequences, control, bidi and invisible characters are
taken out; in JSON they are escaped, such as \\u202e, wherever it goes, and it stays the same JSON. Only
`deliveries show ID --body` writes a body's own bytes, to a file or a pipe. Times are UTC.

Colours only on a terminal: --color always | never decides, then NO_COLOR, then CLICOLOR_FORCE.
--accessible: plain lines, nothing drawn over, no full screen.
";

fn keys() -> String {
    let mut text = "Keys of tail\n\n".to_owned();
    let mut list = |keys: &[(&str, &str)]| {
        for (key, what) in keys {
            text.push_str(&format!("  {key:<16}{what}\n"));
        }
    };
    list(crate::tail::tui::HELP);
    text.push_str("\nKeys of top\n\n");
    for (key, what) in crate::top::HELP {
        text.push_str(&format!("  {key:<16}{what}\n"));
    }
    text.push_str("\nEsc closes what is open and never leaves.\n");
    text
}
