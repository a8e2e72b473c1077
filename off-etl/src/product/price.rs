//! Invented list prices, for products without an observed one: a price per kilogram or liter that follows from the
//! categories, times the amount in the pack.

use super::amount::in_base_unit;

/// Cents per kilogram or liter of common categories.
const CENTS_PER_KILOGRAM: [(&str, f64); 48] = [
    ("en:waters", 60.0),
    ("en:sodas", 140.0),
    ("en:fruit-juices", 230.0),
    ("en:plant-based-milk-alternatives", 210.0),
    ("en:beers", 280.0),
    ("en:wines", 800.0),
    ("en:coffees", 1600.0),
    ("en:teas", 3500.0),
    ("en:beverages", 200.0),
    ("en:milks", 130.0),
    ("en:yogurts", 380.0),
    ("en:butters", 1000.0),
    ("en:cheeses", 1300.0),
    ("en:ice-creams-and-sorbets", 650.0),
    ("en:desserts", 550.0),
    ("en:dairies", 450.0),
    ("en:eggs", 500.0),
    ("en:hams", 1700.0),
    ("en:sausages", 1100.0),
    ("en:meats", 1400.0),
    ("en:fishes", 2000.0),
    ("en:seafood", 1900.0),
    ("en:breads", 420.0),
    ("en:breakfast-cereals", 650.0),
    ("en:pastas", 230.0),
    ("en:rices", 280.0),
    ("en:flours", 140.0),
    ("en:legumes", 330.0),
    ("en:nuts", 1500.0),
    ("en:canned-foods", 480.0),
    ("en:vegetables", 350.0),
    ("en:fruits", 380.0),
    ("en:soups", 360.0),
    ("en:pizzas", 750.0),
    ("en:meals", 850.0),
    ("en:sauces", 600.0),
    ("en:olive-oils", 1100.0),
    ("en:vegetable-oils", 450.0),
    ("en:salts", 120.0),
    ("en:spices", 4000.0),
    ("en:honeys", 1150.0),
    ("en:jams", 600.0),
    ("en:spreads", 850.0),
    ("en:chocolates", 1400.0),
    ("en:candies", 950.0),
    ("en:biscuits", 700.0),
    ("en:baby-foods", 900.0),
    ("en:snacks", 900.0),
];

/// Cents per kilogram or liter of any other product.
const OTHER_CENTS_PER_KILOGRAM: f64 = 600.0;

/// The amount in a pack that states none, in kilograms or liters.
const OTHER_KILOGRAMS: f64 = 0.5;

/// The lowest and the highest price, in cents.
const MIN_CENTS: f64 = 49.0;
const MAX_CENTS: f64 = 9999.0;

/// An invented list price, in cents. It is the same on every machine.
pub(crate) fn invented_price(categories: &[String], amount: Option<f64>, unit: Option<&str>) -> i64 {
    let kilograms = amount.and_then(|amount| kilograms(amount, unit)).unwrap_or(OTHER_KILOGRAMS);
    ending_in_nine(cents_per_kilogram(categories) * kilograms)
}

/// The price of the most specific category that has one: Open Food Facts lists the most general category first.
fn cents_per_kilogram(categories: &[String]) -> f64 {
    let known = |category: &String| CENTS_PER_KILOGRAM.iter().find(|(name, _)| name == category);
    categories.iter().rev().find_map(known).map_or(OTHER_CENTS_PER_KILOGRAM, |&(_, cents)| cents)
}

/// The amount in kilograms or liters; `None` if the unit is unknown or no pack has this amount.
fn kilograms(amount: f64, unit: Option<&str>) -> Option<f64> {
    let base = in_base_unit(amount, unit)?;
    (base.is_finite() && base > 0.0).then_some(base / 1000.0)
}

/// The nearest price in the range that ends in 9 cents.
#[expect(clippy::cast_possible_truncation, reason = "a whole number in the range of prices")]
fn ending_in_nine(cents: f64) -> i64 {
    let tens = (cents.clamp(MIN_CENTS, MAX_CENTS) + 1.0) / 10.0;
    tens.round() as i64 * 10 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*, sample::select};

    fn price(categories: &[&str], amount: Option<f64>, unit: Option<&str>) -> i64 {
        let categories: Vec<String> = categories.iter().map(|&category| category.to_owned()).collect();
        invented_price(&categories, amount, unit)
    }

    /// Categories, amount, unit, and the price that follows.
    type Case<'a> = (&'a [&'a str], Option<f64>, Option<&'a str>, i64);

    #[test]
    fn the_most_specific_known_category_and_the_amount_decide() {
        let cases: [Case<'_>; 11] = [
            (&["en:legumes"], Some(500.0), Some("g"), 169),
            (&["en:beverages", "en:waters", "en:still-waters"], Some(1500.0), Some("ml"), 89),
            (&["en:beverages", "en:smoothies"], Some(1000.0), Some("ml"), 199),
            (&["en:beverages", "en:waters"], Some(100.0), Some("cl"), 59),
            (&["en:cheeses"], Some(0.25), Some("KG"), 329),
            (&["en:cheeses"], Some(250.0), None, 329),
            (&["en:unheard-of"], None, None, 299),
            (&[], Some(3.0), Some("pieces"), 299),
            (&[], Some(0.0), Some("g"), 299),
            (&["en:waters"], Some(1.0), Some("ml"), 49),
            (&["en:spices"], Some(1e6), Some("g"), 9999),
        ];
        for (categories, amount, unit, expected) in cases {
            assert_eq!(price(categories, amount, unit), expected, "{categories:?} {amount:?} {unit:?}");
        }
    }

    #[test]
    fn every_category_is_in_the_table_once_with_a_plausible_price() {
        for (index, (name, cents)) in CENTS_PER_KILOGRAM.iter().enumerate() {
            assert!((10.0..10_000.0).contains(cents), "{name}");
            assert!(CENTS_PER_KILOGRAM[..index].iter().all(|(other, _)| other != name), "{name} is there twice");
        }
    }

    /// Some categories of the table among others.
    fn categories() -> impl Strategy<Value = Vec<String>> {
        let known: Vec<&str> = CENTS_PER_KILOGRAM.iter().map(|&(name, _)| name).chain(["en:other", ""]).collect();
        vec(select(known).prop_map(str::to_owned), 0..6)
    }

    fn unit() -> impl Strategy<Value = Option<&'static str>> {
        option::of(select(vec!["g", "ml", "kg", "L", "cl", "mg", "pieces", ""]))
    }

    proptest! {
        #[test]
        fn a_price_is_in_range_and_ends_in_nine(
            categories in categories(), amount in option::of(any::<f64>()), unit in unit()
        ) {
            let cents = invented_price(&categories, amount, unit);
            prop_assert!((49..=9999).contains(&cents) && cents % 10 == 9, "{}", cents);
            prop_assert_eq!(cents, invented_price(&categories, amount, unit));
        }

        #[test]
        fn a_larger_amount_is_never_cheaper(
            categories in categories(), one in 1e-3..1e6_f64, other in 1e-3..1e6_f64, unit in unit()
        ) {
            let price = |amount: f64| invented_price(&categories, Some(amount), unit);
            prop_assert!(price(one.min(other)) <= price(one.max(other)));
        }
    }
}
