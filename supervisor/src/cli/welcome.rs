//! What `jatis serve --welcome` prints once it serves: where, a token, and a session to paste.

use std::io::{self, Write};

/// Prints the greeting. The session is complete as it stands: a test runs it.
pub(super) fn print(out: &mut impl Write, api: &str, token: &str) -> io::Result<()> {
    write!(
        out,
        "
jatis serves at {api}
Read and try it out: {api}/swagger/index.html
An admin's token (valid for a day; make another with: jatis token):
{token}

A session to paste into another terminal:

# --- paste from here ---
API={api}/api/v1
AUTH='Authorization: Bearer {token}'
JSON='Content-Type: application/json'

# Create a tenant: a queue, a partition and a worker process of its own.
ANSWER=$(curl -sS -X POST \"$API/tenants\" -H \"$AUTH\" -H \"$JSON\" -d '{{\"name\": \"acme\", \"workers\": 2}}'); echo \"$ANSWER\"
TENANT=$(echo \"$ANSWER\" | sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/')

# Post a message: 201 means that it is committed in the tenant's partition.
curl -sS -i -X POST \"$API/messages/$TENANT\" -H \"$AUTH\" -H \"$JSON\" -d '{{\"payload\": {{\"hello\": \"world\"}}}}'; echo

# List its messages.
curl -sS \"$API/messages?tenant_id=$TENANT&limit=10\" -H \"$AUTH\"; echo

# Resize its pool of threads while it runs.
curl -sS -X PUT \"$API/tenants/$TENANT/config/concurrency\" -H \"$AUTH\" -H \"$JSON\" -d '{{\"workers\": 8}}'; echo

# Delete it with everything it has.
curl -sS -X DELETE \"$API/tenants/$TENANT\" -H \"$AUTH\"; echo
# --- to here ---

Ctrl-C stops jatis and its workers.
"
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_names_the_url_and_the_token() {
        let mut out = Vec::new();
        print(&mut out, "http://127.0.0.1:8080", "abc.def.ghi").expect("a vector takes everything");
        let text = String::from_utf8(out).expect("the greeting is text");
        assert!(
            text.contains(
                "API=http://127.0.0.1:8080/api/v1\nAUTH='Authorization: Bearer abc.def.ghi'"
            ),
            "{text}"
        );
        assert!(
            text.contains("-d '{\"payload\": {\"hello\": \"world\"}}'"),
            "{text}"
        );
    }
}
