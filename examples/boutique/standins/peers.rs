//! The other services, as a container's environment names them.

use super::{grpc, redis};
use futures::future::try_join_all;
use seedpod::{Result, http::Client, net::Host, pod::Context};

/// The variables of the Online Boutique that hold addresses, and the method that their owners call there.
///
/// Not among them: `SHOPPING_ASSISTANT_SERVICE_ADDR`, which the frontend uses only with `ENABLE_ASSISTANT` set; the
/// released manifest neither sets that nor deploys the assistant.
const METHODS: [(&str, &str); 9] = [
    ("AD_SERVICE_ADDR", "/hipstershop.AdService/GetAds"),
    ("CART_SERVICE_ADDR", "/hipstershop.CartService/GetCart"),
    ("CHECKOUT_SERVICE_ADDR", "/hipstershop.CheckoutService/PlaceOrder"),
    ("CURRENCY_SERVICE_ADDR", "/hipstershop.CurrencyService/GetSupportedCurrencies"),
    ("EMAIL_SERVICE_ADDR", "/hipstershop.EmailService/SendOrderConfirmation"),
    ("PAYMENT_SERVICE_ADDR", "/hipstershop.PaymentService/Charge"),
    ("PRODUCT_CATALOG_SERVICE_ADDR", "/hipstershop.ProductCatalogService/ListProducts"),
    ("RECOMMENDATION_SERVICE_ADDR", "/hipstershop.RecommendationService/ListRecommendations"),
    ("SHIPPING_SERVICE_ADDR", "/hipstershop.ShippingService/GetQuote"),
];

/// The services that a container was given addresses of.
pub(super) struct Peers {
    client: Client,
    host: Host,
    services: Vec<(String, &'static str)>,
    redis: Option<String>,
}

impl Peers {
    pub(super) fn of(context: &Context) -> Self {
        let given = METHODS.iter().filter_map(|(name, method)| Some((context.env(name)?.to_string(), *method)));
        Peers {
            client: context.http().http2(),
            host: context.host().clone(),
            services: given.collect(),
            redis: context.env("REDIS_ADDR").map(str::to_string),
        }
    }

    /// Calls all of them at once; the error names the one that could not be reached.
    pub(super) async fn call_all(&self) -> Result {
        let calls = self.services.iter().map(|(address, method)| grpc::call(&self.client, address, method));
        let ping = async {
            match &self.redis {
                Some(address) => redis::ping(&self.host, address).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(try_join_all(calls), ping)?;
        Ok(())
    }
}
