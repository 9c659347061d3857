//! The page for shops, `docs/tills.md`: every example of it runs as it stands, and leads to what the page says.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Far longer than a start, or a decision, takes.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(100);

/// A server with a store and a bus of its own.
struct Server {
    process: Child,
    url: String,
    directory: TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let file = |name: &str| directory.path().join(name).display().to_string();
        let process = Command::new(env!("CARGO_BIN_EXE_tillstream"))
            .arg("serve")
            .current_dir(directory.path())
            .env("TILLSTREAM__BUS__PATH", file("bus.db"))
            .env("TILLSTREAM__STORE__URL", format!("sqlite:{}", file("store.db")))
            .env("TILLSTREAM__HTTP__BIND", free.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { process, url: format!("http://{free}"), directory };
        server.wait("it is ready", |server| server.curl(&["/health/ready"]).is_some());
        server
    }

    /// The answer of a call, if it is a success.
    fn curl(&self, args: &[&str]) -> Option<Value> {
        let (path, options) = args.split_first().expect("a path");
        let url = format!("{}{path}", self.url);
        let output = Command::new("curl").args(["-sS", "--fail"]).args(options).arg(url).stderr(Stdio::null()).output();
        let output = output.expect("curl is installed");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    fn items(&self, path: &str) -> Vec<Value> {
        self.curl(&[path]).and_then(|list| list["items"].as_array().cloned()).expect("a list")
    }

    fn wait(&self, what: &str, until: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !until(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The examples of the page, one after the other.
fn examples() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tills.md");
    let page = std::fs::read_to_string(page).expect("the page");
    page.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_example_of_the_page_for_shops_runs_and_leads_to_what_the_page_says() {
    let server = Server::start();
    // Alerts are raised at once, so that their absence says something.
    let patch = r#"{"settings": {"graceSeconds": 0}}"#;
    let kind = "content-type: application/merge-patch+json";
    server.curl(&["/api/plugins/age-verification", "-X", "PATCH", "-H", kind, "-d", patch]).expect("a new setting");
    let script = server.directory.path().join("examples.sh");
    std::fs::write(&script, examples()).expect("a script that can be written");
    let run = Command::new("bash")
        .args(["-e", "-u", "-o", "pipefail"])
        .arg(&script)
        .env("TILLSTREAM", &server.url)
        .env("COUNTERS", server.directory.path().join("counters"))
        .output()
        .expect("bash is installed");
    let told = format!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}");
    assert!(!told.contains("\"rejected\":[{"), "{told}");

    // Everybody who logged out, at the till that had been offline nobody has.
    server.wait("the time sheet is complete", |server| {
        let sheet = server.items("/api/timesheets");
        let ended = |employee: &str| {
            sheet
                .iter()
                .any(|row| row["employeeId"] == employee && row["logoutAt"].is_string() && row["cause"] == "logout")
        };
        ended("E7") && ended("E8") && ended("E9") && sheet.iter().any(|row| row["employeeId"] == "E10")
    });
    assert_eq!(server.items("/api/alerts"), Vec::<Value>::new());
    assert_eq!(server.items("/api/deadletters"), Vec::<Value>::new());
    let asked = server.items("/api/events?type=pos.age.verification_required");
    let baskets: Vec<_> = asked.iter().map(|event| &event["data"]["basketId"]).collect();
    assert_eq!(baskets, ["T3-1"], "nobody is asked in training");
    let orders = server.items("/api/orders");
    assert_eq!((orders.len(), &orders[0]["items"][0]["returned"], &orders[0]["total"]), (1, &true.into(), &0.into()));
}
