-- List prices. The one currency of off is the euro; an amount of money is a whole number of cents.
ALTER TABLE catalog.products
    -- Of one unit. Products of before have this price until the next import, and importers of before write it.
    ADD COLUMN price_cents bigint NOT NULL DEFAULT 299 CHECK (price_cents BETWEEN 1 AND 1000000),
    -- 'open-prices': the price in euros of catalog.observed_prices, where that has one; else the importer invented it.
    ADD COLUMN price_source text NOT NULL DEFAULT 'invented' CHECK (price_source IN ('open-prices', 'invented'));

-- Every real fingerprint is greater, so that the next import writes these products, with a price of their own.
UPDATE catalog.products SET fingerprint = 0;

-- What an export of Open Prices said, also of products that the catalog does not have yet.
CREATE TABLE catalog.observed_prices (
    barcode text NOT NULL CHECK (barcode ~ '^[0-9]{8,24}$'),
    -- ISO 4217.
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- The median, in hundredths of the currency.
    price_cents bigint NOT NULL CHECK (price_cents > 0 AND (currency <> 'EUR' OR price_cents <= 1000000)),
    -- How many prices it is the median of.
    observations bigint NOT NULL CHECK (observations > 0),
    -- The date of the newest of them.
    newest date NOT NULL,
    PRIMARY KEY (barcode, currency)
);

-- Copied column by column, in this order.
ALTER TABLE public.etl_incoming
    ADD COLUMN price_cents bigint NOT NULL,
    ADD COLUMN price_source text NOT NULL;

-- Always empty, like etl_incoming: the patterns of the temporary tables of an import of prices.
CREATE TABLE public.etl_prices (
    barcode text NOT NULL,
    currency text NOT NULL,
    price_cents bigint NOT NULL,
    is_discounted boolean NOT NULL,
    date date NOT NULL
);

-- One row per product and currency of the export; without a price where none is undiscounted and of the last year.
CREATE TABLE public.etl_observed (
    barcode text NOT NULL,
    currency text NOT NULL,
    price_cents bigint,
    observations bigint NOT NULL,
    newest date,
    PRIMARY KEY (barcode, currency)
);
