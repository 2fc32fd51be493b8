//! What a door says of TLS.

use weir_model::{Entry, Redirect, Routing, parse};

use crate::file;

/// A door of one split at `edge` with these lines more; what is told of it, and its routing if that is nothing.
fn of_tls(protocol: &str, lines: &str) -> (Vec<(u16, String)>, Option<Routing>) {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {{name: shop}}\nspec: {{}}\n---\napiVersion: \
         weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: fra}}\nspec: {{platform: vm, gateways: [{{name: edge, channel: \
         admin-db}}]}}\n---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: shop}}\nspec:\n  service: shop\n  port: \
         80\n  protocol: {protocol}\n  backends: {{a: {{zone: fra}}}}\n  routes: [{{name: default, weights: {{a: 100}}}}]\n  \
         gateways:\n    - gateway: edge\n      hosts: [shop.example.com]\n{lines}      backends: {{a: \"10.0.0.5:80\"}}\n"
    );
    let parsed = parse(&[file("all.yaml", text)]);
    let told = parsed.diagnostics.iter();
    let told = told.map(|of| (of.code.0, of.message.clone())).collect();
    let routing = parsed.declaration.splits.values().next().and_then(|split| {
        match &split.gateways.first()?.door.entry {
            Entry::Routes(routing) => Some(routing.clone()),
            _ => None,
        }
    });
    (told, routing)
}

#[test]
fn what_a_door_says_of_tls_goes_together() {
    let good =
        "      httpsOnly: true\n      httpsRedirect: 308\n      snis: [Shop.example.com, a.example.com]\n";
    let (told, routing) = of_tls("http", good);
    assert_eq!(told, []);
    let routing = routing.unwrap();
    assert_eq!(routing.https_redirect, Redirect::Permanent);
    assert_eq!(
        routing.snis,
        ["a.example.com", "shop.example.com"].map(str::to_owned).into()
    );
    let (told, routing) = of_tls("grpc", "      httpsOnly: true\n      httpsRedirect: 426\n");
    assert_eq!(
        (told, routing.unwrap().https_redirect),
        (vec![], Redirect::default())
    );
    for (protocol, lines, code, words) in [
        (
            "http",
            "      snis: [a.example.com]\n",
            717,
            "`snis` stands without `httpsOnly: true`",
        ),
        (
            "http",
            "      httpsRedirect: 301\n",
            717,
            "`httpsRedirect` stands without",
        ),
        (
            "http",
            "      httpsOnly: false\n      httpsRedirect: 426\n",
            717,
            "`httpsRedirect` stands without",
        ),
        (
            "http",
            "      httpsOnly: true\n      httpsRedirect: 303\n",
            717,
            "`httpsRedirect` is 303",
        ),
        (
            "http",
            "      httpsOnly: true\n      httpsRedirect: 65837\n",
            717,
            "`httpsRedirect` is 65837",
        ),
        (
            "http",
            "      httpsOnly: true\n      httpsRedirect: \"301\"\n",
            202,
            "",
        ),
        (
            "http",
            "      httpsOnly: true\n      snis: [\"*.example.com\"]\n",
            702,
            "",
        ),
        (
            "http",
            "      httpsOnly: true\n      snis: [\"a.example.com:443\"]\n",
            702,
            "",
        ),
        (
            "http",
            "      httpsOnly: true\n      snis: []\n",
            0,
            "`snis` is empty",
        ),
        (
            "http",
            "      httpsOnly: \"true\"\n      httpsRedirect: 308\n      snis: [a.example.com]\n",
            202,
            "`httpsOnly`",
        ),
        (
            "grpc",
            "      httpsOnly: true\n      httpsRedirect: 301\n",
            717,
            "a gRPC client is not led elsewhere",
        ),
    ] {
        let (told, routing) = of_tls(protocol, lines);
        assert_eq!(told.len(), 1, "{lines}: {told:?}");
        assert!(code == 0 || told[0].0 == code, "{lines}: {told:?}");
        assert!(told[0].1.contains(words), "{lines}: {told:?}");
        assert_eq!(routing, None, "{lines}");
    }
}
