//! The README files: their commands run here, so that no page rots. tests/README.md says how to write one.

mod names;
mod page;
mod session;
mod shell;

use std::collections::BTreeSet;

use page::{Block, Page, ROOT};

use crate::support::{Shop, Topology};

/// One test for each page, which runs its blocks in order.
macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(#[test]
        fn $name() {
            let problems = session::run(&Page::read($path));
            assert!(problems.is_empty(), "{}", problems.join("\n"));
        })*
    };
}

pages! {
    the_tour_runs "README.md"
    the_page_on_settings_runs "config/README.md"
    the_page_on_deployment_runs "deploy/README.md"
    the_page_on_observability_runs "deploy/observability/README.md"
    the_map_runs "src/README.md"
    the_page_on_identity_runs "src/auth/README.md"
    the_page_on_the_api_runs "src/contract/README.md"
    the_page_on_the_gateway_runs "src/gateway/README.md"
    the_page_on_orders_runs "src/order/README.md"
    the_page_on_the_catalogue_runs "src/product/README.md"
    the_page_for_operators_runs "src/server/ops/README.md"
    the_page_on_pages_runs "src/gateway/pages/README.md"
    the_page_on_the_administration_runs "src/gateway/pages/admin/README.md"
    the_page_on_storage_runs "src/storage/README.md"
    the_page_on_the_log_metrics_and_profiles_runs "src/telemetry/README.md"
    the_page_on_tls_runs "src/tls/README.md"
    the_page_on_tests_runs "tests/README.md"
    the_page_on_speed_runs "tests/bench/README.md"
}

#[test]
fn every_page_is_run() {
    assert_eq!(page::find(), PAGES.iter().map(|path| (*path).to_owned()).collect());
    assert!(Page::read("README.md").text.len() <= 10 * 1024, "the first page is short");
}

#[actix_rt::test]
async fn what_pages_name_is_there() {
    let shop = Shop::start(Topology::OneProcess);
    let routes = shop.gateway().get("/openapi.json").await.json();
    let routes = names::routes(&routes);
    let pages = PAGES.iter().map(|path| Page::read(path)).collect::<Vec<_>>();
    let problems = pages.iter().flat_map(|page| names::problems(page, &routes)).collect::<Vec<_>>();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let api = pages.iter().find(|page| page.path == "src/contract/README.md").unwrap();
    assert_eq!(names::rows(api), routes, "the table of the API has every route");
}

/// A page with `text`.
fn page(text: &str) -> Page {
    Page { path: "deploy/README.md".to_owned(), text: text.to_owned() }
}

#[test]
fn a_name_that_is_not_there_any_more_is_found() {
    let routes = BTreeSet::from(["GET /products".to_owned()]);
    for (text, problem) in [
        ("```sh make\nmake runn\n```", "make has no target runn"),
        ("```sh make\nmake bench BENCH_ARG=1\n```", "make knows no BENCH_ARG"),
        ("```sh make\nmake bench BENCH_ARGS='--only idel'\n```", "invalid choice: 'idel'"),
        ("```sh make\nmake bench BENCH_ARGS='--sekonds 3'\n```", "make bench knows no --sekonds"),
        ("`make chek`", "make has no target chek"),
        ("`app seed --product N`", "app seed --product N"),
        ("```sh cluster\nkubectl exec deployment/user -- /app user creat\n```", "creat"),
        ("```sh cluster\nkubectl exec deployment/usr -- /app migrate\n```", "no Deployment usr"),
        ("```sh cluster\nkubectl port-forward svc/api 8000:8000\n```", "no Service api"),
        ("```sh cluster\nkubectl apply -k deploy/overlays/none\n```", "no deploy/overlays/none"),
        ("```sh cluster\ncd deploy/k8s\nkubectl apply -f x.yaml\n```", "no deploy/k8s/x.yaml"),
        ("```sh cluster\nkubect apply\n```", "kubect is no program that pages use"),
        ("```sh containers\ndocker compose -f none.yaml up\n```", "no none.yaml"),
        ("```sh containers\ndocker compose exec usr /app migrate\n```", "no service usr"),
        ("```sh containers\ncurl localhost:8000/product\n```", "no route /product"),
        ("```sh containers\nsed -i x deploy/none.yaml\n```", "no deploy/none.yaml"),
        ("```sh containers\nif\n```", "syntax error"),
        ("```bash\napp\n```", "no such kind of block: bash"),
        ("[here](none.md)", "no none.md"),
        ("`src/none.rs`", "no src/none.rs"),
        ("`GET /product`", "no route GET /product"),
    ] {
        let found = names::problems(&page(text), &routes);
        assert!(found.len() == 1 && found[0].contains(problem), "{text}: {found:?}");
    }
    let good = "```sh cluster\ncd deploy/k8s\nkubectl apply -f user-service.yaml # and more\n```\n\
                ```sh make\nIMAGE=x make image && make env\n```\n`GET /products?limit=20` `app seed --products N`\n\
                ```sh containers\ncurl localhost:8000/products?limit=1\ndocker compose exec user /app migrate\n```\n";
    assert_eq!(names::problems(&page(good), &routes), [""; 0]);
}

#[test]
fn a_command_that_rots_is_found() {
    for (text, problem) in [
        ("```console\n$ app --version\napp 0.0.9\n```", "printed:\napp "),
        ("```console\n$ app sed\n```", "unrecognized subcommand"),
        ("```console\n$ echo a; echo b\na\n```", "printed:\na\nb"),
        ("```console\n$ echo a\na\nb\n```", "printed:\na"),
        ("```sh\napp --version\nfalse\ntrue\n```", "the shell ended"),
        ("```console\n$ exit 3\n```", "the shell ended"),
    ] {
        let found = session::run(&page(text));
        assert!(found.len() == 1 && found[0].contains(problem), "{text}: {found:?}");
    }
    let good = "```console\n$ echo 1 \\\n    2; cat >x <<'END'\n$ not a command\nEND\n1 2\n$ wc -l <x\n1\n```\n\
                ```sh\nA=1\n```\n```console\n$ echo $A 01a20f2e-27fd-779e-b6c5-a92ca997ad95 x y; seq 9\n\
                1 01a20f2e-27fd-779e-b6c5-000000000000 …\n1\n…\n9\n```\n";
    assert_eq!(session::run(&page(good)), [""; 0]);
}

#[test]
fn a_page_is_read_block_by_block() {
    let page = page("a\n```\npicture\n```\n```sh make\nmake run\n```\n");
    let blocks = page.blocks();
    assert_eq!(
        blocks,
        [
            Block { line: 2, kind: String::new(), text: "picture\n".to_owned() },
            Block { line: 5, kind: "sh make".to_owned(), text: "make run\n".to_owned() },
        ]
    );
    assert_eq!(page.prose(), "a");
    assert!(ROOT.join("Cargo.toml").exists());
}
