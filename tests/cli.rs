//! The command as users run it: each command against a running server and, where that makes sense, without one.

mod support;

mod cli {
    mod auth;
    mod background;
    mod devices;
    mod encryption;
    mod history;
    mod limits;
    mod mount;
    mod mount_locks;
    mod mount_restart;
    mod pushing;
    mod server;
    mod shutdown;
    mod tls;
    mod umount;
    mod users;
}
