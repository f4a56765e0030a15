//! Enumerate, Pull, Release: contexts and pages (DSP0226 section 8).

use std::collections::VecDeque;

use super::classes;
use super::fault::Fault;
use super::knobs::Knobs;
use super::reply::{ADDRESSING, ENUMERATION, Names, WSMAN};
use super::repository::{Instance, Repository};
use super::request::{Request, child, text_of};
use super::service::{Body, permitted, write_object};
use crate::firmware::{Account, Firmware};

/// Most enumerations under way; the oldest go first, as contexts of real firmware are few and short-lived.
const MAX_CONTEXTS: usize = 4;

/// The enumerations under way.
#[derive(Debug)]
pub(super) struct Enumerations {
    contexts: VecDeque<Context>,
    next: u32,
}

#[derive(Debug)]
struct Context {
    id: String,
    mode: Mode,
    items: VecDeque<Instance>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Object,
    Reference,
    Both,
}

impl Enumerations {
    pub(super) fn new() -> Self {
        Self {
            contexts: VecDeque::new(),
            next: 0x1400_0000,
        }
    }

    /// Enumerate: instances as they are now, for the pages to come.
    pub(super) fn enumerate(
        &mut self,
        repository: &Repository,
        firmware: &Firmware,
        account: &Account,
        request: &Request<'_, '_>,
        name: &str,
    ) -> Result<Body, Fault> {
        let body = request
            .body
            .filter(|body| body.has_tag_name((ENUMERATION, "Enumerate")))
            .ok_or(Fault::SchemaValidation)?;
        if body
            .children()
            .any(|child| child.is_element() && child.tag_name().name() == "Filter")
        {
            return Err(Fault::UnsupportedFeature);
        }
        let mode = match child(body, WSMAN, "EnumerationMode").map(text_of) {
            None => Mode::Object,
            Some("EnumerateEPR") => Mode::Reference,
            Some("EnumerateObjectAndEPR") => Mode::Both,
            Some(_) => return Err(Fault::UnsupportedFeature),
        };
        let kinds = classes::kinds_of(name);
        // Of a base class, what the account may see; of a class itself, all or AccessDenied.
        if let Some(class) = classes::find(name) {
            permitted(account, class)?;
        }
        let visible = kinds
            .into_iter()
            .filter(|class| permitted(account, class).is_ok());
        let items = visible
            .flat_map(|class| repository.instances(class, firmware))
            .collect();
        let id = self.new_context(mode, items);
        let mut names = Names::new();
        let mut text = String::new();
        names.open(&mut text, ENUMERATION, "EnumerateResponse");
        names.leaf(&mut text, ENUMERATION, "EnumerationContext", &id);
        names.close(&mut text, ENUMERATION, "EnumerateResponse");
        Ok(Body { names, text })
    }

    fn new_context(&mut self, mode: Mode, items: VecDeque<Instance>) -> String {
        if self.contexts.len() == MAX_CONTEXTS {
            self.contexts.pop_front();
        }
        let id = format!("{:08X}-0000-0000-0000-000000000000", self.next);
        self.next = self.next.wrapping_add(0x0100_0000).wrapping_add(1);
        self.contexts.push_back(Context {
            id: id.clone(),
            mode,
            items,
        });
        id
    }

    /// Takes the context that a Pull or Release names.
    fn context(&mut self, request: &Request<'_, '_>, verb: &str) -> Result<Context, Fault> {
        let body = request
            .body
            .filter(|body| body.has_tag_name((ENUMERATION, verb)))
            .ok_or(Fault::SchemaValidation)?;
        let id = child(body, ENUMERATION, "EnumerationContext")
            .map(text_of)
            .ok_or(Fault::SchemaValidation)?;
        let at = self
            .contexts
            .iter()
            .position(|context| context.id == id)
            .ok_or(Fault::InvalidEnumerationContext)?;
        self.contexts
            .remove(at)
            .ok_or(Fault::InvalidEnumerationContext)
    }

    /// Release: forgets an enumeration.
    pub(super) fn release(&mut self, request: &Request<'_, '_>) -> Result<Body, Fault> {
        self.context(request, "Release")?;
        Ok(Body {
            names: Names::new(),
            text: String::new(),
        })
    }

    /// One page: items of one class, however many more the console would take, as real firmware does it.
    pub(super) fn pull(&mut self, request: &Request<'_, '_>, knobs: &Knobs) -> Result<Body, Fault> {
        let asked = match request
            .body
            .and_then(|body| child(body, ENUMERATION, "MaxElements"))
        {
            // One is what the standard says when nothing is said.
            None => 1,
            Some(node) => text_of(node)
                .parse()
                .ok()
                .filter(|most| *most > 0)
                .ok_or(Fault::SchemaValidation)?,
        };
        let mut context = self.context(request, "Pull")?;
        let most: usize = if knobs.one_item_pages { 1 } else { asked };
        let first = context.items.front().map(|item| item.class.name);
        let mut names = Names::new();
        let mut items = String::new();
        let mut count = 0;
        while count < most
            && let Some(item) = context
                .items
                .pop_front_if(|item| Some(item.class.name) == first)
        {
            write_item(&mut names, &mut items, context.mode, &item);
            count += 1;
        }
        let ended = context.items.is_empty() && !(knobs.late_end && count > 0);
        let mut text = String::new();
        names.open(&mut text, ENUMERATION, "PullResponse");
        if !ended {
            let id = self.new_context(context.mode, context.items);
            names.leaf(&mut text, ENUMERATION, "EnumerationContext", &id);
        }
        names.open(&mut text, ENUMERATION, "Items");
        text.push_str(&items);
        names.close(&mut text, ENUMERATION, "Items");
        if ended {
            names.leaf(&mut text, ENUMERATION, "EndOfSequence", "");
        }
        names.close(&mut text, ENUMERATION, "PullResponse");
        Ok(Body { names, text })
    }
}

fn write_item(names: &mut Names, out: &mut String, mode: Mode, item: &Instance) {
    if mode == Mode::Both {
        names.open(out, WSMAN, "Item");
    }
    if mode != Mode::Reference {
        write_object(
            names,
            out,
            &classes::uri(item.class.name),
            item.class.name,
            &item.properties,
        );
    }
    if mode != Mode::Object {
        names.open(out, ADDRESSING, "EndpointReference");
        item.reference().write(names, out);
        names.close(out, ADDRESSING, "EndpointReference");
    }
    if mode == Mode::Both {
        names.close(out, WSMAN, "Item");
    }
}
