//! How the cluster is reached, and what is told of it where that fails: never a secret.

use std::path::PathBuf;

use sectile::cluster::{Access, KubeCluster};
use sectile::ports::{Cluster as _, Port, PortError};
use serde_json::json;
use tempfile::TempDir;

/// A kubeconfig by which this script gives credentials.
struct Plugged {
    folder: TempDir,
    path: PathBuf,
}

fn plugged(script: &str) -> Plugged {
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", script],
        "env": [{ "name": "HIDDEN", "value": "SECRET \\\"of\" the environment\\" }],
        "interactiveMode": "Never",
    });
    configured(json!({ "exec": exec }).to_string().as_str())
}

/// A kubeconfig whose user is this.
fn configured(user: &str) -> Plugged {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config");
    let text = format!(
        "clusters: [{{ name: c, cluster: {{ server: \"http://127.0.0.1:1\" }} }}]\n\
         contexts: [{{ name: x, context: {{ cluster: c, user: u }} }}]\n\
         current-context: x\nusers:\n- name: u\n  user: {user}\n"
    );
    std::fs::write(&path, text).unwrap();
    Plugged { folder, path }
}

impl Plugged {
    async fn client(&self) -> Port<kube::Client> {
        Access { kubeconfig: Some(&self.path), context: None }.client().await
    }
}

fn tells_no_secret(error: &PortError) -> String {
    let told = format!("{error} {error:?}");
    assert!(!told.contains("SECRET"), "{told}");
    error.to_string()
}

#[tokio::test]
async fn what_a_program_that_gives_credentials_prints_is_not_told_when_it_fails() {
    let plugged = plugged("echo SECRET; echo SECRET >&2; exit 3");
    let told = tells_no_secret(&plugged.client().await.err().unwrap());
    assert!(told.ends_with("no credentials: `sh`, which gives them, failed: exit status: 3"), "{told}");
}

#[tokio::test]
async fn what_a_program_that_gives_credentials_prints_is_not_told_when_it_can_not_be_read() {
    for script in ["echo SECRET", "echo '{\"status\": [\"SECRET\"]}'", "echo 'kind: ['; echo SECRET"] {
        let plugged = plugged(script);
        let told = tells_no_secret(&plugged.client().await.err().unwrap());
        assert!(told.ends_with("what the program that gives them has printed can't be read"), "{told}");
    }
}

#[tokio::test]
async fn what_a_program_that_gives_credentials_prints_is_not_told_when_they_are_renewed() {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "token": "SECRET", "expirationTimestamp": "2026-01-01T00:00:00Z" },
    });
    let folder = TempDir::new().unwrap();
    let mark = folder.path().join("again");
    let mark = mark.display();
    let script = format!("test -e {mark} && {{ echo SECRET; exit 4; }}; touch {mark}; echo '{credential}'");
    let plugged = plugged(&script);
    let cluster = KubeCluster::new(plugged.client().await.unwrap(), None);
    let told = tells_no_secret(&cluster.pod("a", "p").await.unwrap_err());
    assert!(told.contains("`sh`, which gives them, failed: exit status: 4"), "{told}");
    let told = tells_no_secret(&cluster.observe().await.unwrap_err());
    assert!(told.contains("`sh`, which gives them, failed: exit status: 4"), "{told}");
}

#[tokio::test]
async fn what_else_stands_in_a_kubeconfig_that_can_not_be_read_is_not_told() {
    for user in ["{ \"token\": \"SECRET\", \"exec\": 7 }", "{ \"token\": \"SECRET\"", "{ \"token\": [\"SECRET\"] }"] {
        let damaged = configured(user);
        let told = tells_no_secret(&damaged.client().await.err().unwrap());
        let path = damaged.folder.path().display().to_string();
        assert!(told.starts_with(&format!("the kubeconfig {path}/config can't be used: ")), "{told}");
        assert!(told.contains("line 6"), "{told}");
    }
}
