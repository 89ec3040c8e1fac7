//! What a run goes against: the stub itself, nginx as a plain reverse proxy, and Odock's gateway with everything on.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::process;

/// One target of a scenario.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: &'static str,
    pub authority: String,
    pub bearer: Option<String>,
    /// Whose CPU counts; `None` for the stub itself.
    pub pid: Option<u32>,
}

/// A child that is killed when dropped.
pub struct Running {
    child: Child,
    _files: Option<tempfile::TempDir>,
}

impl Running {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in process::tree(self.child.id()).into_iter().rev() {
            if let Ok(pid) = i32::try_from(pid) {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            }
        }
        let _ = self.child.wait();
    }
}

/// The stub in a process of its own, and its `host:port`.
pub fn stub() -> anyhow::Result<(Running, String)> {
    let authority = format!("127.0.0.1:{}", free_port()?);
    let child = Command::new(std::env::current_exe()?)
        .args(["stub", &authority])
        .stdout(Stdio::null())
        .spawn()
        .context("start the stub")?;
    let running = Running {
        child,
        _files: None,
    };
    wait(&authority)?;
    Ok((running, authority))
}

/// nginx with one worker in front of the stub: keep-alive both ways, no buffering of answers, no access log.
pub fn nginx(stub: &str) -> anyhow::Result<(Running, String)> {
    let files = tempfile::tempdir()?;
    let authority = format!("127.0.0.1:{}", free_port()?);
    let folder = files.path().display();
    let configuration = format!(
        "worker_processes 1;\ndaemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 100000000;\n  tcp_nodelay on;\n\
         client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n\
         upstream stub {{ server {stub}; keepalive 1024; keepalive_requests 100000000; }}\n\
         server {{\n    listen {authority};\n    location / {{\n      proxy_pass http://stub;\n\
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    );
    let path = files.path().join("nginx.conf");
    std::fs::write(&path, configuration)?;
    let program = find_nginx()?;
    let child = Command::new(program)
        .arg("-c")
        .arg(&path)
        .arg("-p")
        .arg(files.path())
        .stderr(Stdio::null())
        .spawn()
        .context("start nginx")?;
    let running = Running {
        child,
        _files: Some(files),
    };
    wait(&authority)?;
    Ok((running, authority))
}

fn find_nginx() -> anyhow::Result<PathBuf> {
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
    let found = places
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file());
    found.context("no nginx: run `make setup`")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn wait(authority: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(authority).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on {authority}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
