"""Pure loss and E-step functions with thin modules around them."""
