//! Intel AMT over WS-Management: messages, digest authentication, flows; no I/O.
