//! What the shops sell: products, prices, tax and age limits of a German grocery store.
//!
//! Product `P0001` is the first of the list; the order is part of what a seed means, so new products go last in a category
//! only together with a note in the changelog.

use super::random::Random;

/// A group of products.
#[derive(Debug)]
pub(super) struct Category {
    pub name: &'static str,
    /// Value-added tax, contained in the prices.
    pub tax_percent: i64,
    /// Minimum age of the buyer; 0 without a limit.
    pub minimum_age: u8,
    /// How often it is bought, out of [`TOTAL_WEIGHT`].
    weight: u64,
    from: usize,
    to: usize,
}

/// One product.
#[derive(Debug)]
pub(super) struct Product {
    pub name: &'static str,
    /// Minor units per piece, or per kilogram where it is weighed.
    pub price: i64,
    pub weighed: bool,
}

const fn product(name: &'static str, price: i64, weighed: bool) -> Product {
    Product { name, price, weighed }
}

/// The index of a product in the catalogue.
pub(super) type ProductIndex = u16;

/// The product of that index.
pub(super) fn product_of(index: ProductIndex) -> &'static Product {
    &PRODUCTS[usize::from(index)]
}

/// The category of that product.
pub(super) fn category_of(index: ProductIndex) -> &'static Category {
    let index = usize::from(index);
    CATEGORIES.iter().find(|category| index < category.to).expect("categories cover all products")
}

/// A product as people buy them.
pub(super) fn any_product(random: &mut Random) -> ProductIndex {
    let mut ticket = random.below(TOTAL_WEIGHT);
    for category in &CATEGORIES {
        if ticket < category.weight {
            return product_within(category, random);
        }
        ticket -= category.weight;
    }
    unreachable!("the ticket is below the sum of all weights")
}

/// A product without an age limit.
pub(super) fn unrestricted_product(random: &mut Random) -> ProductIndex {
    loop {
        let product = any_product(random);
        if category_of(product).minimum_age == 0 {
            return product;
        }
    }
}

/// A product of the category of that name.
pub(super) fn product_in(category: &str, random: &mut Random) -> ProductIndex {
    let category = CATEGORIES.iter().find(|candidate| candidate.name == category).expect("a category of the catalogue");
    product_within(category, random)
}

fn product_within(category: &Category, random: &mut Random) -> ProductIndex {
    let index = category.from + random.index(category.to - category.from);
    ProductIndex::try_from(index).expect("the catalogue is small")
}

/// What is often bought with a product.
pub(super) fn companion_of(index: ProductIndex) -> Option<ProductIndex> {
    COMPANIONS.iter().find(|(product, _)| *product == index).map(|(_, companion)| *companion)
}

const TOTAL_WEIGHT: u64 = 107;

const CATEGORIES: [Category; 16] = [
    Category { name: "bakery", tax_percent: 7, minimum_age: 0, weight: 13, from: 0, to: 12 },
    Category { name: "produce", tax_percent: 7, minimum_age: 0, weight: 17, from: 12, to: 32 },
    Category { name: "dairy", tax_percent: 7, minimum_age: 0, weight: 15, from: 32, to: 47 },
    Category { name: "meat", tax_percent: 7, minimum_age: 0, weight: 7, from: 47, to: 58 },
    Category { name: "frozen", tax_percent: 7, minimum_age: 0, weight: 5, from: 58, to: 68 },
    Category { name: "pantry", tax_percent: 7, minimum_age: 0, weight: 13, from: 68, to: 91 },
    Category { name: "snacks", tax_percent: 7, minimum_age: 0, weight: 9, from: 91, to: 103 },
    Category { name: "beverages", tax_percent: 19, minimum_age: 0, weight: 9, from: 103, to: 113 },
    Category { name: "beer", tax_percent: 19, minimum_age: 16, weight: 3, from: 113, to: 120 },
    Category { name: "wine", tax_percent: 19, minimum_age: 16, weight: 2, from: 120, to: 126 },
    Category { name: "spirits", tax_percent: 19, minimum_age: 18, weight: 1, from: 126, to: 132 },
    Category { name: "tobacco", tax_percent: 19, minimum_age: 18, weight: 2, from: 132, to: 137 },
    Category { name: "household", tax_percent: 19, minimum_age: 0, weight: 4, from: 137, to: 148 },
    Category { name: "health", tax_percent: 19, minimum_age: 0, weight: 3, from: 148, to: 158 },
    Category { name: "baby", tax_percent: 7, minimum_age: 0, weight: 2, from: 158, to: 164 },
    Category { name: "pet", tax_percent: 7, minimum_age: 0, weight: 2, from: 164, to: 170 },
];

const COMPANIONS: [(ProductIndex, ProductIndex); 14] = [
    (68, 70),
    (69, 89),
    (100, 101),
    (50, 86),
    (76, 32),
    (78, 35),
    (127, 110),
    (0, 34),
    (1, 80),
    (62, 87),
    (158, 160),
    (113, 91),
    (14, 39),
    (126, 109),
];

const PRODUCTS: [Product; 170] = [
    product("Rye bread 750 g", 329, false),
    product("Wheat rolls 6 pcs", 199, false),
    product("Sourdough loaf 1 kg", 449, false),
    product("Butter croissant", 119, false),
    product("Pretzel", 89, false),
    product("Baguette", 159, false),
    product("Whole grain toast 500 g", 179, false),
    product("Multigrain roll", 59, false),
    product("Cinnamon bun", 149, false),
    product("Apple strudel slice", 199, false),
    product("Cheesecake slice", 229, false),
    product("Berliner doughnut", 109, false),
    product("Bananas", 179, true),
    product("Apples Elstar", 249, true),
    product("Tomatoes on the vine", 349, true),
    product("Cucumber", 99, false),
    product("Iceberg lettuce", 149, false),
    product("Carrots 1 kg", 129, false),
    product("Potatoes 2 kg", 299, false),
    product("Onions 1 kg", 149, false),
    product("Grapes white", 399, true),
    product("Oranges", 229, true),
    product("Lemons 500 g", 179, false),
    product("Bell peppers", 449, true),
    product("Mushrooms 250 g", 169, false),
    product("Avocado", 129, false),
    product("Broccoli 500 g", 199, false),
    product("Strawberries 500 g", 379, false),
    product("Courgettes", 279, true),
    product("Garlic bulb", 59, false),
    product("Pears Conference", 269, true),
    product("Sweet potatoes", 259, true),
    product("Whole milk 1 l", 119, false),
    product("Low-fat milk 1 l", 109, false),
    product("Butter 250 g", 229, false),
    product("Plain yoghurt 500 g", 139, false),
    product("Strawberry yoghurt 150 g", 69, false),
    product("Gouda slices 300 g", 279, false),
    product("Emmental", 1390, true),
    product("Mozzarella 125 g", 99, false),
    product("Cream 200 ml", 119, false),
    product("Quark 500 g", 159, false),
    product("Eggs free range 10 pcs", 329, false),
    product("Feta 200 g", 249, false),
    product("Parmesan 150 g", 399, false),
    product("Oat drink 1 l", 199, false),
    product("Cream cheese 200 g", 149, false),
    product("Minced beef 500 g", 499, false),
    product("Chicken breast", 1190, true),
    product("Pork schnitzel", 990, true),
    product("Bratwurst 5 pcs", 399, false),
    product("Salami 100 g", 229, false),
    product("Cooked ham 150 g", 249, false),
    product("Rump steak", 2990, true),
    product("Bacon 150 g", 219, false),
    product("Turkey slices 100 g", 199, false),
    product("Salmon fillet 250 g", 699, false),
    product("Lamb chops", 2490, true),
    product("Pizza Margherita", 279, false),
    product("Pizza Salami", 299, false),
    product("Fish fingers 15 pcs", 379, false),
    product("Spinach 750 g", 219, false),
    product("Chips 1 kg", 249, false),
    product("Vanilla ice cream 1 l", 349, false),
    product("Peas 450 g", 179, false),
    product("Berry mix 500 g", 349, false),
    product("Vegetable stir-fry 750 g", 299, false),
    product("Ice lollies 8 pcs", 299, false),
    product("Spaghetti 500 g", 129, false),
    product("Penne 500 g", 129, false),
    product("Tomato sauce 400 g", 189, false),
    product("Basmati rice 1 kg", 299, false),
    product("Wheat flour 1 kg", 89, false),
    product("Sugar 1 kg", 139, false),
    product("Olive oil 750 ml", 799, false),
    product("Sunflower oil 1 l", 199, false),
    product("Ground coffee 500 g", 649, false),
    product("Black tea 25 bags", 199, false),
    product("Muesli 750 g", 349, false),
    product("Cornflakes 375 g", 249, false),
    product("Strawberry jam 450 g", 249, false),
    product("Honey 500 g", 499, false),
    product("Hazelnut spread 400 g", 299, false),
    product("Tinned tomatoes 400 g", 99, false),
    product("Chickpeas 400 g", 99, false),
    product("Tuna in oil 150 g", 179, false),
    product("Mustard 250 ml", 119, false),
    product("Ketchup 500 ml", 199, false),
    product("Salt 500 g", 39, false),
    product("Pesto 190 g", 229, false),
    product("Lentils 500 g", 189, false),
    product("Potato crisps 175 g", 179, false),
    product("Salted peanuts 200 g", 199, false),
    product("Dark chocolate 100 g", 129, false),
    product("Milk chocolate 100 g", 119, false),
    product("Gummy bears 200 g", 109, false),
    product("Butter biscuits 200 g", 149, false),
    product("Pretzel sticks 250 g", 99, false),
    product("Cereal bar 4 pcs", 229, false),
    product("Chewing gum", 99, false),
    product("Tortilla chips 200 g", 199, false),
    product("Salsa dip 300 g", 229, false),
    product("Trail mix 200 g", 299, false),
    product("Mineral water 1.5 l", 69, false),
    product("Mineral water crate 12 l", 599, false),
    product("Cola 1.5 l", 149, false),
    product("Orange juice 1 l", 229, false),
    product("Apple spritzer 1 l", 129, false),
    product("Iced tea 1.5 l", 139, false),
    product("Energy drink 250 ml", 129, false),
    product("Tonic water 1 l", 189, false),
    product("Multivitamin juice 1 l", 179, false),
    product("Ginger ale 1 l", 169, false),
    product("Pilsner 0.5 l", 99, false),
    product("Pilsner crate 20 x 0.5 l", 1599, false),
    product("Wheat beer 0.5 l", 109, false),
    product("Lager 6 x 0.33 l", 499, false),
    product("Craft IPA 0.33 l", 219, false),
    product("Radler 0.5 l", 99, false),
    product("Dark beer 0.5 l", 119, false),
    product("Riesling 0.75 l", 599, false),
    product("Pinot noir 0.75 l", 749, false),
    product("Rose 0.75 l", 499, false),
    product("Prosecco 0.75 l", 649, false),
    product("Merlot 0.75 l", 449, false),
    product("Sparkling wine 0.75 l", 399, false),
    product("Vodka 0.7 l", 1099, false),
    product("Gin 0.7 l", 1799, false),
    product("Whisky 0.7 l", 2499, false),
    product("Rum 0.7 l", 1299, false),
    product("Herbal liqueur 0.7 l", 1399, false),
    product("Korn 0.7 l", 699, false),
    product("Cigarettes 20 pcs", 820, false),
    product("Cigarettes XL 25 pcs", 1000, false),
    product("Rolling tobacco 30 g", 799, false),
    product("Cigarillos 17 pcs", 450, false),
    product("Tobacco sticks 20 pcs", 700, false),
    product("Washing powder 1.2 kg", 599, false),
    product("Dish soap 500 ml", 139, false),
    product("Kitchen towels 4 rolls", 329, false),
    product("Toilet paper 8 rolls", 399, false),
    product("Bin bags 35 l", 179, false),
    product("Sponges 5 pcs", 129, false),
    product("All-purpose cleaner 1 l", 179, false),
    product("Aluminium foil 30 m", 229, false),
    product("Candles 4 pcs", 299, false),
    product("AA batteries 4 pcs", 399, false),
    product("Freezer bags 3 l", 149, false),
    product("Toothpaste 75 ml", 149, false),
    product("Shampoo 300 ml", 249, false),
    product("Shower gel 250 ml", 159, false),
    product("Plasters 20 pcs", 199, false),
    product("Deodorant 150 ml", 229, false),
    product("Hand cream 75 ml", 249, false),
    product("Soap bar", 89, false),
    product("Tissues 10 packs", 179, false),
    product("Vitamin C tablets 20 pcs", 199, false),
    product("Razor blades 4 pcs", 999, false),
    product("Nappies size 4 40 pcs", 1195, false),
    product("Baby food carrot 190 g", 119, false),
    product("Wet wipes 80 pcs", 149, false),
    product("Infant milk 800 g", 1599, false),
    product("Baby biscuits 100 g", 199, false),
    product("Baby lotion 200 ml", 249, false),
    product("Cat food 12 x 85 g", 459, false),
    product("Dog food 800 g", 199, false),
    product("Cat litter 10 l", 549, false),
    product("Dog treats 200 g", 179, false),
    product("Bird seed 1 kg", 229, false),
    product("Dry cat food 1 kg", 399, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_cover_the_catalogue_without_gaps() {
        let mut next = 0;
        for category in &CATEGORIES {
            assert_eq!(category.from, next, "{}", category.name);
            next = category.to;
        }
        assert_eq!(next, PRODUCTS.len());
        assert!(PRODUCTS.len() >= 150);
        assert_eq!(CATEGORIES.iter().map(|category| category.weight).sum::<u64>(), TOTAL_WEIGHT);
    }
}
