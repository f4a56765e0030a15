//! Reading request envelopes, by namespace and never by prefix.
//!
//! The bytes come from an authenticated console, which is no reason to trust them: document types are refused, the
//! number of nodes is limited, and the caller has limited the length.

use roxmltree::{Document, Node, ParsingOptions};

use super::fault::Fault;
use super::reply::{ADDRESSING, SOAP, WSMAN};
use super::value::Reference;

/// Most nodes in a request; a Put of the largest class needs some 250.
const MAX_NODES: u32 = 5_000;

/// A request's headers and body.
#[derive(Debug)]
pub(super) struct Request<'a, 'input> {
    /// Verbatim, for RelatesTo; `0` when there was none.
    pub(super) message_id: &'a str,
    pub(super) action: Option<&'a str>,
    pub(super) resource: Option<&'a str>,
    pub(super) selectors: Vec<(String, String)>,
    /// The one element of the body, if any.
    pub(super) body: Option<Node<'a, 'input>>,
    /// A fault that the headers call for, found before anything is done.
    pub(super) refused: Option<Fault>,
}

/// Parses XML within our limits.
pub(super) fn document(text: &str) -> Result<Document<'_>, Fault> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|_| Fault::SchemaValidation)
}

impl<'a, 'input> Request<'a, 'input> {
    pub(super) fn of(document: &'a Document<'input>) -> Result<Self, Fault> {
        let envelope = document.root_element();
        if !envelope.has_tag_name((SOAP, "Envelope")) {
            return Err(Fault::SchemaValidation);
        }
        let header = child(envelope, SOAP, "Header");
        let text = |namespace, name| {
            header
                .and_then(|header| child(header, namespace, name))
                .map(text_of)
        };
        let body = child(envelope, SOAP, "Body").ok_or(Fault::SchemaValidation)?;
        let selectors = header
            .and_then(|header| child(header, WSMAN, "SelectorSet"))
            .map(selectors)
            .unwrap_or_default();
        Ok(Self {
            message_id: text(ADDRESSING, "MessageID").unwrap_or("0"),
            action: text(ADDRESSING, "Action"),
            resource: text(WSMAN, "ResourceURI"),
            selectors,
            body: body.children().find(Node::is_element),
            refused: header.and_then(refused),
        })
    }
}

/// Headers that AMT is known to refuse.
fn refused(header: Node<'_, '_>) -> Option<Fault> {
    let must_understand = |node: &Node<'_, '_>| {
        matches!(node.attribute((SOAP, "mustUnderstand")), Some("true" | "1"))
    };
    if child(header, WSMAN, "OptionSet").is_some_and(|options| must_understand(&options)) {
        return Some(Fault::MustUnderstand);
    }
    let size = child(header, WSMAN, "MaxEnvelopeSize").map(text_of)?;
    (!size.parse::<u64>().is_ok_and(|size| size >= 50_000)).then_some(Fault::EncodingLimit)
}

/// The first child element of that name.
pub(super) fn child<'a, 'input>(
    node: Node<'a, 'input>,
    namespace: &str,
    name: &str,
) -> Option<Node<'a, 'input>> {
    node.children()
        .find(|child| child.has_tag_name((namespace, name)))
}

/// An element's text without the whitespace around it.
pub(super) fn text_of<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

/// Selectors; their attribute comes unqualified, as it should, or qualified, as one client sends it.
fn selectors(set: Node<'_, '_>) -> Vec<(String, String)> {
    let selectors = set
        .children()
        .filter(|child| child.has_tag_name((WSMAN, "Selector")));
    selectors
        .filter_map(|selector| {
            let name = selector
                .attributes()
                .find(|attribute| attribute.name() == "Name")?
                .value();
            Some((name.to_owned(), text_of(selector).to_owned()))
        })
        .collect()
}

/// The endpoint reference inside an element; also one that is wrapped in `EndpointReference`. The address is not
/// looked at: clients send several.
pub(super) fn reference(node: Node<'_, '_>) -> Option<Reference> {
    let node = child(node, ADDRESSING, "EndpointReference").unwrap_or(node);
    let parameters = child(node, ADDRESSING, "ReferenceParameters")?;
    let uri = child(parameters, WSMAN, "ResourceURI").map(text_of)?;
    let class = uri.rsplit('/').next().unwrap_or(uri).to_owned();
    let selectors = child(parameters, WSMAN, "SelectorSet")
        .map(selectors)
        .unwrap_or_default();
    Some(Reference { class, selectors })
}

/// The parameters of a method, or the properties of an object: child elements in the class's namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elements<'a, 'input> {
    node: Node<'a, 'input>,
    namespace: &'a str,
}

impl<'a, 'input> Elements<'a, 'input> {
    pub(super) fn of(node: Node<'a, 'input>, namespace: &'a str) -> Self {
        Self { node, namespace }
    }

    /// Every element of that name.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = Node<'a, 'input>> {
        self.node
            .children()
            .filter(move |child| child.has_tag_name((self.namespace, name)))
    }

    pub(super) fn node(self, name: &str) -> Option<Node<'a, 'input>> {
        self.all(name).next()
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.node(name).map(text_of)
    }

    /// A number; a fault when there is something else.
    pub(super) fn number(self, name: &'static str) -> Result<Option<u32>, Fault> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| Fault::InvalidValue(name)))
            .transpose()
    }

    /// A number that has to be there.
    pub(super) fn required(self, name: &'static str) -> Result<u32, Fault> {
        self.number(name)?.ok_or(Fault::MissingValue(name))
    }

    /// A boolean; a fault when there is something else.
    pub(super) fn boolean(self, name: &'static str) -> Result<Option<bool>, Fault> {
        let text = self.text(name);
        text.map(|text| super::value::boolean(text).ok_or(Fault::InvalidValue(name)))
            .transpose()
    }

    /// The names of all elements, each once.
    pub(super) fn names(self) -> Vec<&'a str> {
        let mut names: Vec<_> = self
            .node
            .children()
            .filter(|child| {
                child.is_element() && child.tag_name().namespace() == Some(self.namespace)
            })
            .map(|child| child.tag_name().name())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
