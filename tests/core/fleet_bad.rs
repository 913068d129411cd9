//! Everything that can be wrong with a fleet file, as people read it.

use std::fmt::Write as _;

use sectile::sim::fleet;

const GPU: &str = "[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n";

fn golden(name: &str, cases: &[(&str, String)]) {
    let mut out = String::new();
    for (title, text) in cases {
        let errors = fleet::parse("FLEET.toml", text).expect_err(title);
        writeln!(out, "######## {title}\n{}\n", errors.render(false)).unwrap();
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, out) });
}

fn workload(kind: &str, rest: &str) -> String {
    format!("[[workload]]\nkind = \"{kind}\"\nnamespace = \"x\"\nname = \"w\"\nprofile = \"1g.10gb\"\n{rest}\n")
}

fn budget(of: &str) -> String {
    format!("[[budget]]\nnamespace = \"x\"\nname = \"b\"\nworkload = \"{of}\"\nmax_unavailable = 1\n")
}

fn user(profile: &str, user: &str) -> String {
    format!("instances = [{{ profile = \"{profile}\", users = [\"{user}\"] }}]\n")
}

#[test]
fn form() {
    let many: String = (0..102).map(|_| "[[node]]\n").collect();
    golden(
        "form",
        &[
            ("no TOML", "[[node]\n".to_owned()),
            ("a key twice", "[[node]]\nname = \"a\"\nname = \"b\"\n".to_owned()),
            ("too deep", format!("{}a = 1\n", "a.".repeat(20))),
            ("types", "node = 1\nworkload = [1]\nbudget = \"x\"\nfault = []\n".to_owned()),
            ("more types", "[[node]]\nname = 1\nlabels = []\ncluster = \"no\"\ngpu = 1.5\n".to_owned()),
            (
                "what is in no list",
                "[[node]]\nname = \"a\"\nstrategy = \"mixt\"\nwriters = [\"hamm\", \"nos\"]\n".to_owned(),
            ),
            ("nothing that a host keeps", "[[node]]\nname = \"a\"\ndevice_files = [\"cdy\", \"x\"]\n".to_owned()),
            ("dates", "[[node]]\nname = 1979-05-27\nlabels = { a = {} }\ngpu = [inf]\n".to_owned()),
            ("numbers", format!("{GPU}count = 99999999999999999999\n{GPU}count = -1\n{GPU}count = 65\n")),
            (
                "texts",
                format!(
                    "[[node]]\nname = \"\"\n[[node]]\nname = \"{}\"\n[[node.gpu]]\nmodel = 1\ncount = \"{}\"\n",
                    "x".repeat(9),
                    "x".repeat(99)
                ),
            ),
            (
                "control characters",
                "[[node]]\nname = \"a\\u001b[2J\"\nlabels = { \"\\u0007\" = \"b\", c = \"\\u202e\" }\n".to_owned(),
            ),
            ("a user with control characters", format!("{GPU}processes = [\"a\\u009b\", 3]\n")),
            ("a key with control characters", "\"a\\u001b\" = 1\n".to_owned()),
            ("latencies", "[fault.latency]\nclients = \"400d\"\nunit = 3\ndrain = \"1.5s\"\nx = 1\n".to_owned()),
            ("calls", "[fault]\ncall = [1]\n".to_owned()),
            (
                "calls that go wrong",
                [
                    "name = \"tinker\"\nhangs = \"x\"",
                    "name = \"set_taint\"\nfails = \"9\"\ntakes = \"1s\"",
                    "name = \"create_gi\"",
                ]
                .map(|text| format!("[[fault.call]]\n{text}\n"))
                .concat(),
            ),
            (
                "a workload of nothing",
                "[[workload]]\nkind = \"Teapot\"\nreplicas = 1000001\ngrace = \"-1s\"\n".to_owned(),
            ),
        ],
    );
    let errors = fleet::parse("FLEET.toml", &many).unwrap_err();
    let drawn = errors.render(false);
    insta::assert_snapshot!("more", drawn.rsplit("\n\n").next().unwrap_or_default());
}

#[test]
fn sense() {
    let gpu = |rest: &str| format!("{GPU}{rest}");
    let pod = user("1g", "pod:x/p");
    golden(
        "sense",
        &[
            ("no board", "[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxn\"\n".to_owned()),
            (
                "a board of which too little is known",
                "[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"rtx-pro-6000d\"\nmig = true\n".to_owned(),
            ),
            ("a node twice", gpu("[[node]]\nname = \"a\"\n")),
            ("MIG mode off", gpu("mig = false\ninstances = [{ profile = \"1g\" }]\n")),
            ("no such profile", gpu("instances = [{ profile = \"1g.5gb\" }]\n")),
            ("no room there", gpu("instances = [{ profile = \"4g.40gb\", start = 4 }]\n")),
            ("no room", gpu("instances = [{ profile = \"7g.80gb\" }, { profile = \"1g.10gb\" }]\n")),
            ("one user on many", gpu(&format!("count = 2\n{}", user("1g", "unit:u")))),
            ("no compute instance", gpu("instances = [{ profile = \"1g\", compute = [], users = [\"unit:u\"] }]\n")),
            (
                "bare metal",
                format!("[[node]]\nname = \"a\"\ncluster = false\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n{pod}"),
            ),
            ("no MIG devices", gpu(&pod).replace("name = \"a\"", "name = \"a\"\nstrategy = \"none\"")),
            ("on two nodes", format!("{GPU}{pod}{}{pod}", GPU.replace("\"a\"", "\"b\""))),
            ("another profile", gpu(&format!("{}{}", user("2g", "pod:x/w-a"), workload("Deployment", "")))),
            (
                "more than wanted",
                gpu(&format!("{}{}", user("1g", "pod:x/w-a"), workload("Deployment", "replicas = 0"))),
            ),
            ("no ordinal", gpu(&format!("{}{}", user("1g", "pod:x/w-a"), workload("StatefulSet", "replicas = 2")))),
            ("a workload twice", format!("{}{}", workload("Job", ""), workload("Deployment", ""))),
            ("a budget of nothing", format!("{}{}", workload("Job", ""), budget("ww"))),
            ("a budget twice", format!("{}{}{}", workload("Job", ""), budget("w"), budget("w"))),
        ],
    );
}
