"""Today's prices, from the Cloud Billing Catalog."""
