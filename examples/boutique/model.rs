//! What the services of the shop say to each other, as JSON.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of money, in the smallest unit of its currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Money {
    pub(crate) minor: i64,
    pub(crate) currency: String,
}

impl Money {
    pub(crate) fn new(minor: i64, currency: &str) -> Self {
        Money { minor, currency: currency.to_string() }
    }

    /// How many digits stand behind the point: the yen has no smaller unit.
    pub(crate) fn digits(currency: &str) -> u32 {
        if currency == "JPY" { 0 } else { 2 }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.currency.as_str() {
            "EUR" => "€",
            "USD" => "$",
            "GBP" => "£",
            "JPY" => "¥",
            other => other,
        };
        match Money::digits(&self.currency) {
            0 => write!(f, "{sign}{}", self.minor),
            _ => write!(f, "{sign}{}.{:02}", self.minor / 100, self.minor % 100),
        }
    }
}

/// What the catalogue knows of a product; its price is in the catalogue's own currency, euro cents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) description: String,
    pub(crate) price: i64,
}

/// One product in a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) product: String,
    pub(crate) quantity: u32,
}

/// What a shopper has put aside. The version moves with every change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cart {
    pub(crate) lines: Vec<Line>,
    #[serde(default)]
    pub(crate) version: u64,
}

impl Cart {
    pub(crate) fn items(&self) -> u32 {
        self.lines.iter().map(|line| line.quantity).sum()
    }
}

/// What a shopper asks the checkout for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Purchase {
    /// The number of the order, given out with the cart page: the same page sent twice is the same order.
    pub(crate) order: String,
    pub(crate) user: String,
    pub(crate) currency: String,
    pub(crate) email: String,
    pub(crate) address: String,
    pub(crate) card: String,
}

/// An order that has been paid: the checkout's answer, and the message on the topic `orders`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) address: String,
    pub(crate) lines: Vec<Line>,
    /// The version of the cart that has become this order.
    pub(crate) cart: u64,
    pub(crate) costs: Costs,
    pub(crate) transaction: String,
}

/// What the payment service is asked to charge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) order: String,
    pub(crate) amount: Money,
    pub(crate) card: String,
}

/// What the payment service answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) transaction: String,
}

/// What sending these many items costs, in the catalogue's currency.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Quote {
    pub(crate) price: i64,
}

/// What a cart costs, in the shopper's currency: the shipping, and everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Costs {
    pub(crate) shipping: Money,
    pub(crate) total: Money,
}

/// What else to look at, and which version of the recommendation service thinks so.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recommended {
    pub(crate) version: String,
    pub(crate) reason: String,
    pub(crate) products: Vec<String>,
}

/// An advertisement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ad {
    pub(crate) text: String,
    pub(crate) product: String,
}
